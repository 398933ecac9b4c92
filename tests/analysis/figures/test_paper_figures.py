"""The paper's figures: their numbers, what the pictures show of them, and what is said where cells are missing."""

import dataclasses

import pytest
from made_up import with_fidelity

from analysis.figures.figure_1 import figure_1
from analysis.figures.figure_4 import figure_4
from analysis.figures.figure_a1 import figure_a1
from analysis.figures.figure_a3 import figure_a3
from analysis.figures.figure_a4_a11 import figure_a4_a11
from analysis.figures.figure_a12 import figure_a12
from analysis.figures.parts.drawing import NothingToDrawError
from analysis.paper.printed_numbers import load_paper
from analysis.results import Results
from harness.results.measurements import AnchorRecord, KVStatistic
from harness.spec import TrialSpec
from harness.workloads.probes import ContextsSpec, OffsetsSpec, ProximitySpec
from harness.workloads.recall import RecallSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig, MethodConfig


@pytest.fixture
def probe(make_result):
    """``probe(spec, rows)``: a trial that came to these statistics, given as keyword arguments of each."""

    def make(spec, rows):
        common = {"trial_id": spec.trial_id, "attempt": 1, "probe": spec.workload.name}
        statistics = [KVStatistic(**common, **{"n": 10, **row}) for row in rows]
        return dataclasses.replace(make_result(spec), turns=[], samples=[], kv_statistics=statistics)

    return make


def line(axes, label, number=0):
    """The y values of a line of a panel, by its label."""
    found = [line for line in axes.get_lines() if line.get_label() == label]
    return [float(y) for y in found[number].get_ydata()]


def contexts_rows():
    for part, aligned in (("keys", True), ("keys", False), ("values", None)):
        for measure in ("offset", "neighbor_offset", "offset_difference"):
            for layer in (1, 0):
                for token in (0, 1):
                    value = layer + 10 * token + (part == "values") + 0.5 * (aligned is False)
                    for statistic, number in (("sd", 0.125), ("mean", value)):
                        yield {
                            "measure": measure, "statistic": statistic, "value": number, "part": part, "layer": layer,
                            "aligned": aligned, "token_index": token, "token_text": f" {measure[:3]}{token}",
                        }  # fmt: skip


def test_figure_1(write, probe):
    """Catches keys drawn as values, aligned as not aligned, a standard deviation as a mean, layers out of order, and
    another token in front."""
    results = write(probe(TrialSpec(workload=ContextsSpec()), contexts_rows()))
    (drawn,) = figure_1(Results(results))
    assert drawn.name == "figure_1"
    one, two, difference = drawn.figure.axes
    assert one.get_title() == 'one token, "off0"'
    assert (line(one, "keys"), line(one, "values")) == ([0, 1], [1, 2])
    assert line(two, 'aligned, "nei0"') == [0, 1]
    assert line(two, 'not aligned, "off0"') == [0.5, 1.5]
    assert line(difference, "if unrelated") == pytest.approx([0, 2**0.5])
    names = [[text.get_text() for text in axes.texts] for axes in drawn.figure.axes]
    assert [set(each) for each in names] == [
        {"keys", "values"}, {"aligned", "not aligned"}, {"aligned", "not aligned", "if unrelated"},
    ]  # fmt: skip
    assert drawn.figure.legends == []
    bands = [band.get_paths()[0].vertices[:, 1] for band in one.collections]
    assert [(band.min(), band.max()) for band in bands] == [(-0.125, 1.125), (0.875, 2.125)]
    assert len(drawn.data) == 3 * 3 * 2 * 2 * 2


def proximity_rows():
    for part in ("keys", "values"):
        for measure in ("distance", "offset_distance"):
            for layer in range(3):
                known = layer > 0 or measure == "distance"
                place = {"part": part, "measure": measure, "layer": layer}
                for index, bin_ in enumerate(("near", "mid", "far", "random")):
                    mean = index + layer + 10 * (part == "values") if known else None
                    yield {**place, "bin": bin_, "statistic": "mean", "value": mean, "n": 100}
                    yield {**place, "bin": bin_, "statistic": "sd", "value": 1.0 if known else None, "n": 100}
                for bin_, rho in ((None, 0.5), ("random", 0.1)):
                    yield {**place, "bin": bin_, "statistic": "spearman", "value": rho if known else None, "n": 300}


def test_figure_4(write, probe):
    """Catches bins mixed up, a correlation of random pairs passed off as the paper's, an undefined layer drawn as 0,
    and intervals of another width."""
    results = write(probe(TrialSpec(workload=ProximitySpec()), proximity_rows()))
    (drawn,) = figure_4(Results(results))
    axes = drawn.figure.axes
    assert [ax.get_title()[:3] for ax in axes] == ["(a)", "(b)", "(c)", "(d)"] * 2
    assert (line(axes[0], "near"), line(axes[0], "far")) == ([0, 1, 2], [2, 3, 4])
    assert line(axes[2], "near") == [1, 2], "layer 0 has no offset"
    assert line(axes[4], "mid") == [11, 12, 13]
    assert (line(axes[1], "all three"), line(axes[1], "random")) == ([0.5] * 3, [0.1] * 3)
    near = drawn.data[(drawn.data["bin"] == "near") & (drawn.data["measure"] == "distance")].iloc[0]
    assert (near["value_low"], near["value_high"]) == pytest.approx((-0.196, 0.196), abs=1e-3)
    unknown = drawn.data[drawn.data["value"].isna()]
    assert set(zip(unknown["measure"], unknown["layer"], strict=True)) == {("offset_distance", 0)}


def test_figures_a4_to_a11(write, probe):
    """Catches agents in one figure, kinds or parts mixed up, and a band between other quantiles."""
    rows = [
        {"measure": "offset", "statistic": name, "value": number * size, "agent_index": agent, "kind": kind,
         "part": part, axis: place, "n": 8}
        for agent in (1, 2) for kind, size in (("text", 1), ("placeholder", 3)) for part in ("keys", "values")
        for axis in ("layer", "dimension") for place in range(3)
        for name, number in (("q05", -agent), ("q25", -0.5), ("q50", 0.25), ("q95", agent), ("rms", 9))
    ]  # fmt: skip
    results = write(probe(TrialSpec(workload=OffsetsSpec()), rows))
    first, second = figure_a4_a11(Results(results))
    assert (first.name, second.name) == ("figure_a4_a11_agent_1", "figure_a4_a11_agent_2")
    titles = [ax.get_title() for ax in second.figure.axes]
    assert titles == ["keys, by layer", "keys, by dimension", "values, by layer", "values, by dimension"]
    for ax in second.figure.axes:
        assert line(ax, "placeholder, median") == [0.75] * 3
        bands = {band.get_label(): band.get_paths()[0].vertices[:, 1] for band in ax.collections}
        assert (bands["text after it, 5 to 95 %"].min(), bands["placeholder, 5 to 95 %"].max()) == (-2, 6)
    assert set(second.data["agent_index"]) == {2}


def test_several_trials_have_a_figure_each(write, probe):
    """Catches statistics of two seeds in one line, and two figures under one name."""
    trials = [probe(TrialSpec(workload=ContextsSpec(), seed=seed), contexts_rows()) for seed in (0, 1)]
    results = write(*trials)
    names = {drawn.name for drawn in figure_1(Results(results))}
    assert len(names) == 2


def test_figure_a1(write, make_result):
    """Catches bytes in another unit, a failed trial at 0, a panel that is silently missing, and the paper's range in
    the wrong one."""
    results = []
    for anchors, output, ok in ((5, 64, True), (5, 128, True), (20, 64, True), (20, 128, False)):
        workload = TtftSpec(anchors=anchors, output_tokens=output, prefix_tokens=64)
        spec = TrialSpec(workload=workload, method="kvcomm", parameters=KVCommConfig(gamma=1.0))
        result = make_result(spec, status="ok" if ok else "oom")
        size = {"pool_bytes_max": anchors * output * 10**6, "pool_bytes_public_layout": 2 * anchors * output * 10**6}
        trial = dataclasses.replace(result.trial, **(size if ok else {}))
        results.append(dataclasses.replace(result, trial=trial, samples=[]))
    (drawn,) = figure_a1(Results(write(*results)))
    assert [ax.get_title() for ax in drawn.figure.axes] == [f"{anchors} anchors" for anchors in (5, 10, 15, 20)]
    five, ten, _, twenty = drawn.figure.axes
    assert line(five, "prefix 64") == [0.32, 0.64]
    assert line(five, "public code's layout") == [0.64, 1.28]
    measured, gap = line(twenty, "prefix 64")
    assert (measured, gap != gap) == (1.28, True)
    assert [text.get_text() for text in ten.texts] == ["not run"]
    assert not five.texts
    rows = drawn.data.set_index(["anchors", "output_tokens"])
    assert rows.loc[(15, 64), "memory_gb"] != rows.loc[(15, 64), "memory_gb"]
    assert tuple(rows.loc[(15, 64), ["paper_low_gb", "paper_high_gb"]]) == (5, 12)


def test_figure_a3(write, make_result):
    """Catches anchors of one placeholder counted as another's, weights drawn for counts, and anchors that fall out of
    the histograms."""
    spec = TrialSpec(method="kvcomm", agents=2)
    anchors = [
        AnchorRecord(
            trial_id=spec.trial_id, attempt=1, placeholder=placeholder, shard=0, age_rank=rank, tokens=20 + rank * 7,
            readers="1 2", activations=rank, weight=rank / 10,
        )
        for placeholder, count in (("agent_1_current", 4), ("user_question", 9)) for rank in range(count)
    ]  # fmt: skip
    result = make_result(spec)
    trial = dataclasses.replace(result.trial, anchors_at_end=len(anchors))
    results = write(dataclasses.replace(result, trial=trial, anchors=anchors))
    (drawn,) = figure_a3(Results(results))
    scatter, lengths, counts = drawn.figure.axes
    assert [mark.get_label() for mark in scatter.get_lines()] == ["user_question (9)", "agent_1_current (4)"]
    assert line(scatter, "agent_1_current (4)") == [0, 1, 2, 3]
    for ax in (lengths, counts):
        # Bars of the second group stand on those of the first.
        assert sum(bar.get_height() for bar in ax.patches) == 13
    assert len(drawn.data) == 13


def kvcomm(estimator):
    return TrialSpec(agents=2, workload=RecallSpec(), method="kvcomm", parameters=KVCommConfig(estimator=estimator))


@pytest.fixture
def checked(make_result):
    """``checked(spec, kl, samples)``: a trial whose turns but those of the first sample were compared with dense."""

    def make(spec, kl, samples=8):
        spec = dataclasses.replace(spec, fidelity=1.0)
        result = make_result(spec, samples=samples)
        turns = [dataclasses.replace(t, mode="reuse" if t.sample_index else "dense") for t in result.turns]
        return with_fidelity(dataclasses.replace(result, turns=turns), kl)

    return make


def test_figure_a12(write, checked):
    """Catches arms compared on other turns, keys and values or agents mixed up, an arm that is silently missing, and
    the paper's numbers at the wrong part."""
    naive = dataclasses.replace(kvcomm("mean"), method="naive", parameters=MethodConfig())
    results = write(
        checked(kvcomm("l2_norm"), lambda turn: 0.1),
        # From sample 5 on there is no nearest anchor, and the others are much better than before.
        checked(kvcomm("nearest"), lambda turn: 0.3, samples=5),
        checked(naive, lambda turn: 0.5 if turn.sample_index < 5 else 0.0),
    )
    (drawn,) = figure_a12(Results(results))
    titles = [ax.get_title() for ax in drawn.figure.axes]
    assert titles[:4] == ["agent 1, keys, 4 turns", "agent 2, keys, 4 turns", "agent 1, values", "agent 2, values"]
    keys, _, values, _ = drawn.figure.axes[:4]
    got = {arm: (line(keys, arm), line(values, arm)) for arm in ("l2_norm", "nearest", "plain reuse")}
    assert got["l2_norm"] == (pytest.approx([0.99]), pytest.approx([0.98]))
    assert got["nearest"] == (pytest.approx([0.97]), pytest.approx([0.94]))
    assert got["plain reuse"] == (pytest.approx([0.95]), pytest.approx([0.9]))
    assert "cosine: not run" in {mark.get_label() for mark in keys.get_lines()}
    assert (line(keys, "paper, l2_norm")[0], line(values, "paper, l2_norm")[0]) == (0.92, 0.95)
    assert set(drawn.data.loc[drawn.data["value"].isna(), "arm"]) == {"cosine"}


def test_figure_a12_without_a_shared_turn(write, checked):
    """Catches a picture of nothing where the arms reused different turns."""
    other = checked(kvcomm("cosine"), lambda turn: 0.2)
    kept = [record for record in other.fidelity if record.sample_index > 5]
    results = write(checked(kvcomm("l2_norm"), lambda turn: 0.1, samples=4), dataclasses.replace(other, fidelity=kept))
    with pytest.raises(NothingToDrawError, match="no turn was reused by all of l2_norm, cosine"):
        figure_a12(Results(results))


def test_every_figure_says_what_it_needs(write, make_result):
    """Catches an empty picture, and a figure of failed trials."""
    specs = [TrialSpec(workload=workload) for workload in (ContextsSpec(), ProximitySpec(), OffsetsSpec())]
    results = Results(write(*(make_result(spec, status="error") for spec in specs)))
    for draw in (figure_1, figure_4, figure_a4_a11):
        with pytest.raises(NothingToDrawError, match=r"needs a trial of \w+; kvcomm run sweeps/paper/figure_"):
            draw(results)
    for draw in (figure_a1, figure_a3, figure_a12):
        with pytest.raises(NothingToDrawError, match="needs "):
            draw(results)


def test_what_the_paper_prints():
    """Catches a range upside down, and a similarity above 1."""
    numbers = load_paper().figure_numbers
    assert list(numbers) == ["A.1", "A.12"]
    for _, cell in numbers["A.1"].cells():
        assert cell["memory_low"] < cell["memory_high"]
    assert all(0 < value < 1 for _, cell in numbers["A.12"].cells() for value in cell.values())
