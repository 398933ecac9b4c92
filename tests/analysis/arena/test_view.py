"""``kvcomm show --arena`` and the figure: what they say of made-up arms."""

import dataclasses
import io
import json
from itertools import pairwise

import pytest
from made_up import with_fidelity
from rich.console import Console

from analysis.arena.view import make_arena
from analysis.figures.kl_computed import kl_computed
from analysis.figures.parts.drawing import NothingToDrawError
from analysis.results import Results
from harness.spec import TrialSpec
from kvcomm_core.methods.baseline_config import EpicConfig


@pytest.fixture
def folder(write, make_result):
    """Three reusing arms of 10 samples: naive, nearer epic, and kvcomm, whose first sample is dense."""
    results = [make_result(TrialSpec(agents=2), samples=10)]
    for method, kl, computed in (("naive", 0.4, 5.0), ("epic", 0.1, 20.0), ("kvcomm", 0.2, 25.0)):
        result = make_result(TrialSpec(agents=2, method=method, fidelity=1.0), samples=10)
        turns = [
            dataclasses.replace(
                turn,
                mode=turn.mode if method == "kvcomm" else "reuse",
                computed_tokens=100.0 if method == "kvcomm" and not turn.sample_index else computed,
            )
            for turn in result.turns
        ]
        own = dataclasses.replace(result, turns=turns)
        results.append(with_fidelity(own, lambda turn, kl=kl: kl * (1 + 0.1 * turn.sample_index)))
    return write(*results)


def rendered(tables):
    console = Console(width=200, record=True, file=io.StringIO())
    tables.print(console)
    return console.export_text()


def test_tables_and_their_data(folder):
    """Catches a number that the terminal shows and ``--json`` lacks, a beaten arm on the front, and counts of pairs
    that are not those of the list."""
    tables = make_arena(Results(folder))
    text, data = rendered(tables), tables.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert [(row["arm"], row["on_front"]) for row in data["arena"]] == [
        ("naive", True), ("epic", True), ("kvcomm", False), ("dense", False),
    ]  # fmt: skip
    assert "recall, 2 agents: 10 items" in text
    assert "0.5800*" in text
    assert {(row["budget"], row["arm"]) for row in data["budgets"]} >= {(0.05, "naive"), (0.3, "epic"), (0.5, "kvcomm")}
    pairs = [row for row in data["pairs"] if row["measure"] == "kl_next_token"]
    assert len(pairs) == data["pairs_separated"]["kl_next_token"]["pairs"] == 3
    separated = data["pairs_separated"]["kl_next_token"]["separated"]
    assert separated == sum(row["separated"] for row in pairs) == 3
    assert "KL of the first token: 3 of 3 pairs separated" in text


def test_the_first_samples_may_be_left_out(folder):
    """Catches samples that filled the pools in the means, and a warm-up that forgets them."""
    row = next(row for row in make_arena(Results(folder), 1).to_dict()["arena"] if row["arm"] == "kvcomm")
    assert (row["n_items"], row["warm_up_samples"], row["reuse_share"]) == (9, 1.0, 1.0)
    assert row["kl_next_token"]["value"] == pytest.approx(0.2 * 1.5)
    with pytest.raises(ValueError, match="10; allowed: 0 to 9"):
        make_arena(Results(folder), 10)


def test_results_without_arms(tmp_path, write, make_result):
    """Catches an empty page for results that hold no answers."""
    failed = make_result(TrialSpec(agents=2), status="error")
    with pytest.raises(ValueError, match="without a graded trial that ended well"):
        make_arena(Results(write(failed)))


def test_the_picture_holds_the_table(folder):
    """Catches axes swapped, exact arms on a logarithmic axis, and a front through a beaten arm."""
    [drawn] = kl_computed(Results(folder))
    rows = {row["arm"]: row for row in drawn.data.to_dict("records")}
    assert set(rows) == {"naive", "epic", "kvcomm"}
    assert rows["epic"]["computed_percent"] == pytest.approx(20.0)
    assert rows["epic"]["kl_nats"] == pytest.approx(0.145)
    assert rows["epic"]["kl_nats_low"] < 0.145 < rows["epic"]["kl_nats_high"]
    assert [rows[arm]["on_front"] for arm in ("naive", "epic", "kvcomm")] == [True, True, False]
    [axes] = drawn.figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert {text.get_text() for text in axes.texts} == {"naive", "epic", "kvcomm"}
    front = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert list(front.get_xdata()) == pytest.approx([5.0, 20.0, rows["kvcomm"]["computed_percent"]])
    assert front.get_ydata()[2] == front.get_ydata()[1]  # who may compute more does no worse


def test_an_exact_cache_ends_the_front(folder, write, make_result):
    """Catches a front that goes on beyond what an exact prefix cache computes, and a star on an arm that it beats."""
    result = make_result(TrialSpec(agents=2, method="prefix", fidelity=1.0), samples=10)
    turns = [dataclasses.replace(turn, mode="reuse", computed_tokens=10.0) for turn in result.turns]
    write(with_fidelity(dataclasses.replace(result, turns=turns), lambda turn: 0.0))
    rows = {row["arm"]: row for row in make_arena(Results(folder)).to_dict()["arena"]}
    assert [rows[arm]["on_front"] for arm in ("naive", "prefix", "epic", "kvcomm")] == [True, False, False, False]
    [drawn] = kl_computed(Results(folder))
    [axes] = drawn.figure.axes
    assert set(drawn.data["arm"]) == {"naive", "epic", "kvcomm"}
    front, exact = (next(line for line in axes.lines if line.get_linestyle() == style) for style in ("--", ":"))
    assert list(front.get_xdata()) == pytest.approx([5.0, 10.0])
    assert list(exact.get_xdata()) == pytest.approx([10.0, 10.0])
    assert exact.get_label().startswith("exact prefix cache")


def test_nothing_to_draw(write, make_result):
    """Catches an empty picture where nothing was compared with dense."""
    with pytest.raises(NothingToDrawError, match="two reusing methods with fidelity 1"):
        kl_computed(Results(write(make_result(TrialSpec(agents=2)), make_result(TrialSpec(agents=2, method="kvcomm")))))


def test_names_do_not_cover_each_other(write, make_result):
    """Six arms at nearly the same point. Catches labels of which only the last can be read."""
    results = []
    for first in range(1, 7):
        spec = TrialSpec(agents=2, method="epic", fidelity=1.0, parameters=EpicConfig(first=first))
        result = make_result(spec, samples=6)
        turns = [dataclasses.replace(turn, mode="reuse", computed_tokens=20 + 0.01 * first) for turn in result.turns]
        own = dataclasses.replace(result, turns=turns)
        results.append(with_fidelity(own, lambda turn, first=first: 0.1 + 0.0001 * first))
    [drawn] = kl_computed(Results(write(*results)))
    [axes] = drawn.figure.axes
    heights = sorted(
        text.get_position()[1] + axes.transData.transform(text.xy)[1] * 72 / drawn.figure.dpi for text in axes.texts
    )
    assert len(heights) == 6
    assert min(b - a for a, b in pairwise(heights)) >= 4.9
