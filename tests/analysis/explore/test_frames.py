"""DataFrames to go on with."""

import math

import pytest
from made_up import with_outcomes

from analysis.explore.frames import cells_frame, column_of, figure_frame, paper_frame
from analysis.figures.parts.drawing import NothingToDrawError
from analysis.report.explorer import MEASURES
from analysis.results import Results
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=4)
LOW, HIGH = (TrialSpec(agents=4, method="kvcomm", parameters=KVCommConfig(gamma=gamma)) for gamma in (0.1, 0.3))


@pytest.fixture
def results(write, make_result):
    write(make_result(DENSE, samples=12, sweep="other"))
    made = [make_result(spec, samples=12) for spec in (DENSE, LOW)]
    return Results(write(*made, with_outcomes(make_result(HIGH, samples=12), "+" * 12)))


def test_cells(results):
    """Catches cells left out, numbers in the wrong row, a unit that its name does not have, and 0 for unknown."""
    frame = cells_frame(results)
    assert sorted(frame["sweep"]) == ["other", "s", "s", "s"]
    by_arm = frame[frame["sweep"] == "s"].set_index("arm")
    assert by_arm["kvcomm.gamma"].dropna().to_dict() == {"kvcomm gamma=0.1": 0.1, "kvcomm gamma=0.3": 0.3}
    assert by_arm["accuracy_percent"].to_dict() == {"dense": 50, "kvcomm gamma=0.1": 50, "kvcomm gamma=0.3": 100}
    assert by_arm["change_points"]["kvcomm gamma=0.3"] == 50
    assert by_arm["ttft_ms"]["dense"] == pytest.approx(200)
    assert by_arm["speedup"]["kvcomm gamma=0.1"] == pytest.approx(2)
    assert math.isnan(by_arm["speedup"]["dense"])
    assert math.isnan(by_arm["kl_nats"]["kvcomm gamma=0.1"])
    assert (by_arm["accuracy_percent_low"] < by_arm["accuracy_percent"]).all()
    assert {column_of(one) for one in MEASURES} < set(frame)


def test_cells_of_some_sweeps(results):
    """Catches a frame without columns where nothing was found, so that the next cell of a notebook fails."""
    assert set(cells_frame(results, "s")["sweep"]) == {"s"}
    nothing = cells_frame(results, "absent")
    assert nothing.empty
    assert {"arm", "accuracy_percent"} < set(nothing)


def test_paper(results):
    """Catches our numbers in another cell than the paper's, and a cell that was not run without its reason."""
    frame = paper_frame(results, "6")
    ran = frame.dropna(subset="ours")
    assert {(row["gamma"], row["metric"]) for _, row in ran.iterrows()} >= {(0.3, "accuracy")}
    assert set(frame.loc[frame["ours"].isna(), "gap"].dropna()) == {"not run"}
    with pytest.raises(KeyError):
        paper_frame(results, "7")


def test_figure(results):
    """Catches other numbers than those of the picture, and silence about a figure that the results cannot fill."""
    frame = figure_frame(results, "accuracy_ttft", "s")
    assert set(frame["arm"]) == {"dense", "kvcomm gamma=0.1", "kvcomm gamma=0.3"}
    assert set(frame["figure"]) == {"accuracy_ttft"}
    with pytest.raises(NothingToDrawError):
        figure_frame(results, "figure_4", "s")
