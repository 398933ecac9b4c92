"""Figures: the numbers in them, what makes them readable, and that the same results give the same files."""

import dataclasses
import subprocess
import sys
from statistics import median

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import with_fidelity, with_outcomes, with_reasons
from matplotlib.text import Text

from analysis.figures.accuracy_ttft import accuracy_ttft
from analysis.figures.all_figures import FIGURES
from analysis.figures.fidelity_layers import fidelity_layers
from analysis.figures.fidelity_memory import fidelity_memory
from analysis.figures.no_reuse_reasons import no_reuse_reasons
from analysis.figures.parts.drawing import NothingToDrawError
from analysis.figures.parts.looks import looks
from analysis.figures.parts.scatter import pareto_front
from analysis.figures.parts.styles import STYLES, in_style
from analysis.figures.reuse_warmup import reuse_warmup
from analysis.figures.saving import save, save_figures
from analysis.figures.sensitivity import sensitivity
from analysis.figures.speedup_length import speedup_length
from analysis.figures.ttft_phases import ttft_phases
from analysis.results import Results
from harness.spec import TrialSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
LOW, HIGH = (TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=gamma)) for gamma in (0.1, 0.3))


@pytest.fixture
def reusing(make_result):
    """``reusing(spec, samples, pool, kl, **turn_fields)``: a trial with pools that was compared with dense."""

    def make(spec, samples=12, pool=10**6, kl=0.5, **fields):
        result = make_result(spec, samples=samples)
        turns = [dataclasses.replace(turn, anchors_in_pool=turn.sample_index, **fields) for turn in result.turns]
        trial = dataclasses.replace(result.trial, pool_bytes_max=pool)
        return with_fidelity(dataclasses.replace(result, trial=trial, turns=turns), lambda turn: kl)

    return make


def columns(data, *names):
    """Rows of a figure's data as tuples."""
    return [tuple(row) for row in data[list(names)].itertuples(index=False)]


def test_accuracy_against_time(write, make_result, reusing):
    """Catches axes swapped, a median that hides the dense turns of kvcomm, and a beaten arm on the front."""
    results = [
        with_outcomes(make_result(DENSE, samples=12), "+" * 9 + "-" * 3),
        with_outcomes(reusing(LOW), "+" * 6 + "-" * 6),
        with_outcomes(reusing(HIGH), "+" * 3 + "-" * 9),
    ]
    (drawn,) = accuracy_ttft(Results(write(*results)))
    assert columns(drawn.data, "arm", "accuracy_percent", "on_front") == [
        ("dense", 75.0, True),
        ("kvcomm gamma=0.1", 50.0, True),
        ("kvcomm gamma=0.3", 25.0, False),
    ]
    assert list(drawn.data["ttft_ms"]) == pytest.approx([200, 1300 / 12, 1300 / 12])
    assert (drawn.data["accuracy_percent_low"] < drawn.data["accuracy_percent"]).all()
    (axes,) = drawn.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("mean TTFT (ms)", "accuracy (%)")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9))
def test_pareto_front(points):
    """Catches a front that holds a beaten point or misses one, against every pair compared."""

    def beaten(point):
        return any(o != point and o[0] <= point[0] and o[1] >= point[1] for o in points)

    front = pareto_front(points)
    assert {points[index] for index in front} == {point for point in points if not beaten(point)}
    assert [points[index] for index in front] == sorted(points[index] for index in front)


def test_fidelity_against_memory(write, make_result, reusing):
    """Catches bytes in the wrong unit, and a method without pools at 0 bytes."""
    naive = make_result(TrialSpec(agents=2, method="naive"))
    turns = [dataclasses.replace(turn, mode="reuse") for turn in naive.turns]
    naive = with_fidelity(dataclasses.replace(naive, turns=turns), lambda turn: 0.4)
    (drawn,) = fidelity_memory(Results(write(naive, reusing(LOW, pool=3_000_000, kl=0.02))))
    (kvcomm, other) = columns(drawn.data, "arm", "pool_mb", "kl_nats")
    assert kvcomm == ("kvcomm", 3.0, pytest.approx(0.02))
    assert other[0] == "naive"
    assert other[1] != other[1]
    assert other[2] == pytest.approx(0.4)


def test_phases_add_up(write, make_result, reusing):
    """Catches bars that end elsewhere than the TTFT, dense turns in the bar of kvcomm, and agents mixed up."""
    results = [make_result(DENSE, samples=12), reusing(LOW, phase_blend_s=0.01, phase_prefill_s=0.03)]
    (drawn,) = ttft_phases(Results(write(*results)))
    assert drawn.name == "ttft_phases_recall_2_agents"
    parts = ["base_kv", "match", "estimate", "blend", "recompute", "prefill", "rest"]
    assert drawn.data["estimate"].isna().all(), "these results do not know it"
    assert list(drawn.data[parts].sum(axis=1)) == pytest.approx(list(drawn.data["ttft_ms"]))
    assert columns(drawn.data, "agent", "arm", "ttft_ms_n") == [
        (1, "dense", 12), (2, "dense", 12), (1, "kvcomm", 11), (2, "kvcomm", 11),
    ]  # fmt: skip
    kvcomm = drawn.data[drawn.data["arm"] == "kvcomm"].iloc[0]
    assert [kvcomm[part] for part in ("blend", "prefill", "rest")] == pytest.approx([10, 30, 60])
    assert [axes.get_title() for axes in drawn.figure.axes] == ["agent 1", "agent 2"]
    ends = [sum(bar.get_width() for bar in axes.patches) for axes in drawn.figure.axes]
    assert ends == pytest.approx([300, 300])


def test_a_timing_draws_its_own_arms(write, make_result):
    """Catches the arm ``prefix`` of a timing left out, or drawn as the method's."""
    result = make_result(dataclasses.replace(LOW, workload=TtftSpec()), samples=3)
    seconds = {"dense": 0.4, "prefix": 0.3, "bare": 9.0, "kvcomm": 0.1}
    turns = [
        dataclasses.replace(turn, arm=arm, ttft_s=took, mode="reuse" if arm == "kvcomm" else "dense")
        for turn in result.turns
        for arm, took in seconds.items()
    ]
    (drawn,) = ttft_phases(Results(write(dataclasses.replace(result, turns=turns, samples=[]))))
    first = drawn.data[drawn.data["agent"] == 1]
    assert dict(zip(first["arm"], first["ttft_ms"], strict=True)) == pytest.approx(
        {"dense beside kvcomm": 400, "prefix beside kvcomm": 300, "kvcomm": 100}
    )


@pytest.mark.parametrize("lengths", [3, 40])
def test_speedup_by_length(lengths, write, make_result):
    """Catches ratios of medians, lengths of the dense arm, and bins that drop or double turns."""
    dense, reuse = make_result(DENSE, samples=41), make_result(LOW, samples=41)
    slow = [dataclasses.replace(t, ttft_s=1 + t.sample_index % 7, prompt_tokens=9) for t in dense.turns]
    fast = [dataclasses.replace(t, ttft_s=0.5, prompt_tokens=100 + t.sample_index % lengths) for t in reuse.turns]
    results = write(dataclasses.replace(dense, turns=slow), dataclasses.replace(reuse, turns=fast))
    (drawn,) = speedup_length(Results(results))
    assert drawn.data["speedup_n"].sum() == 2 * 40
    assert len(drawn.data) == (3 if lengths == 3 else 6)
    assert drawn.data["prompt_tokens"].is_monotonic_increasing
    if lengths == 3:
        expected = [median((1 + s % 7) / 0.5 for s in range(1, 41) if s % 3 == rest) for rest in range(3)]
        assert list(drawn.data["speedup"]) == pytest.approx(expected)
        assert list(drawn.data["prompt_tokens"]) == [100, 101, 102]


def test_reuse_by_samples_seen(write, make_result, reusing):
    """Catches a running mean that smears the start, blocks that overlap, and arms without pools."""
    (drawn,) = reuse_warmup(Results(write(make_result(DENSE, samples=12), reusing(LOW, samples=25))))
    spans = columns(drawn.data, "first_sample", "last_sample")
    assert [sample for first, last in spans for sample in range(first, last + 1)] == list(range(25))
    assert len(spans) == 10
    assert set(drawn.data["arm"]) == {"kvcomm"}
    first = spans[0][1] + 1
    assert drawn.data["reuse_percent"].iloc[0] == pytest.approx(90 * (first - 1) / first)
    assert list(drawn.data["reuse_percent"])[1:] == [90.0] * 9


def test_reasons_and_reuse_fill_the_bar(write, make_result):
    """Catches shares that do not add up to 100 %, arms whose parts are stacked on another's, and unlabelled parts."""
    low, high = (
        with_reasons(make_result(spec, samples=20), reasons)
        for spec, reasons in ((LOW, "C" * 4 + "L" * 10 + "r" * 6 + "+" * 20), (HIGH, "C" * 1 + "l" * 9 + "+" * 30))
    )
    (drawn,) = no_reuse_reasons(Results(write(make_result(DENSE, samples=20), low, high)))
    assert columns(drawn.data, "arm", "reason", "placeholder", "percent") == [
        ("kvcomm gamma=0.1", "reused", "", 50.0),
        ("kvcomm gamma=0.1", "cold", "question", 10.0),
        ("kvcomm gamma=0.1", "too_long", "question", 25.0),
        ("kvcomm gamma=0.1", "refused", "answer", 15.0),
        ("kvcomm gamma=0.3", "reused", "", 75.0),
        ("kvcomm gamma=0.3", "cold", "question", 2.5),
        ("kvcomm gamma=0.3", "too_long", "answer", 22.5),
    ]
    (axes,) = drawn.figure.axes
    ends = {}
    for bar in axes.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        assert bar.get_x() == pytest.approx(ends.get(row, 0.0)), "no gap and no overlap"
        ends[row] = bar.get_x() + bar.get_width()
    assert ends == pytest.approx({0: 100, 1: 100})
    assert sorted(text.get_text() for text in axes.texts if text.get_text()) == ["10", "15", "22", "25", "50", "75"]
    (legend,) = drawn.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "reused", "cold: question", "too long: question", "too long: answer", "refused: answer",
    ]  # fmt: skip


def test_reasons_of_older_results_are_not_drawn_as_none(write, make_result):
    """Catches an old arm drawn as one that always reused, beside a new one."""
    old, new = with_reasons(make_result(LOW), "??++"), with_reasons(make_result(HIGH), "C+++")
    with pytest.raises(NothingToDrawError, match="identity version 3"):
        no_reuse_reasons(Results(write(old)))
    (drawn,) = no_reuse_reasons(Results(write(new)))
    assert set(drawn.data["arm"]) == {"kvcomm gamma=0.3"}


def test_layers(write, reusing):
    """Catches keys under values, agents mixed up, and a mean over segments that forgets their lengths."""
    result = reusing(LOW, kl=0.5)
    rows = []
    for row in result.fidelity:
        for layer in (0, 1):
            good = 1.0 - 0.1 * layer if row.part == "keys" else 0.5
            rows += [
                dataclasses.replace(row, layer=layer, kind="text", cosine=good, tokens=30),
                dataclasses.replace(row, layer=layer, cosine=0.2, tokens=10, l2_error=1.0 * row.agent_index),
            ]
    results = write(dataclasses.replace(result, fidelity=rows))
    first, second = fidelity_layers(Results(results))
    assert [drawn.name[-23:] for drawn in (first, second)] == [f"recall_2_agents_agent_{n}" for n in (1, 2)]
    cosines = {(part, layer): value for part, layer, value in columns(first.data, "part", "layer", "cosine")}
    assert cosines == pytest.approx(
        {("keys", 0): (30 + 2) / 40, ("keys", 1): (27 + 2) / 40, ("values", 0): 17 / 40, ("values", 1): 17 / 40}
    )
    assert set(second.data["agent"]) == {2}
    assert list(second.data["l2_error"]) == pytest.approx([(30 * 0.5 + 20) / 40] * 4)
    assert [axes.get_ylabel() for axes in first.figure.axes] == ["cosine similarity"] * 2 + ["mean L2 error"] * 2


def test_sensitivity(write, make_result):
    """Catches gaps drawn as points, and the paper's curve under another's name."""
    gsm8k = TrialSpec(agents=4, workload=Gsm8kSpec(limit=2))
    tuned = dataclasses.replace(gsm8k, method="kvcomm", parameters=KVCommConfig(gamma=0.5))
    (drawn,) = sensitivity(Results(write(make_result(gsm8k), make_result(tuned))))
    measured = drawn.data.dropna(subset="ours")
    assert columns(measured.fillna(-1), "metric", "gamma", "max_anchors", "ours") == [
        *(("accuracy (%)", gamma, anchors, 50.0) for gamma, anchors in ((0, -1), (0.5, -1), (-1, 0))),
        ("turns reused (%)", 0, -1, 0.0),
        ("turns reused (%)", 0.5, -1, 50.0),
        ("turns reused (%)", -1, 0, 0.0),
    ]
    (legend,) = drawn.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["paper, gsm8k", "ours: embedded, gsm8k"]


def test_sensitivity_of_a_stand_in(write, make_result):
    """Catches accuracies on other questions drawn beside the paper's, and the two pictures under one name."""
    recall = TrialSpec(agents=4)
    tuned = dataclasses.replace(recall, method="kvcomm", parameters=KVCommConfig(gamma=0.5))
    results = write(make_result(recall, samples=6), with_outcomes(make_result(tuned, samples=6), "+-----"))
    (drawn,) = sensitivity(Results(results))
    accuracy = drawn.data[drawn.data["metric"] == "accuracy - dense (points)"].dropna(subset="ours")
    assert columns(accuracy, "gamma", "ours", "ours_n") == [(0.5, pytest.approx(100 * (1 - 3) / 6), 6)]
    assert accuracy["paper"].tolist() == [pytest.approx(80.0 - 82.1)]
    assert drawn.name == "sensitivity_embedded_recall"
    (legend,) = drawn.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["paper, gsm8k", "ours: embedded, recall"]


def test_every_figure_says_what_it_needs(write, make_result):
    """Catches an empty picture, and a figure of failed trials."""
    results = Results(write(make_result(DENSE, status="error")))
    draws = [accuracy_ttft, fidelity_memory, ttft_phases, speedup_length, reuse_warmup, no_reuse_reasons, sensitivity]
    draws.append(fidelity_layers)
    for draw in draws:
        with pytest.raises(NothingToDrawError, match="needs "):
            draw(results)


@pytest.mark.slow
def test_the_same_results_give_the_same_files(write, make_result, reusing, tmp_path):
    """Catches dates and random ids in files that are kept in a repository, and a file that does not open."""
    results = write(make_result(DENSE, samples=12), reusing(LOW))
    first, second = (
        save(accuracy_ttft(Results(results))[0], tmp_path / "figures" / name) for name in ("first", "second")
    )
    assert [path.name for path in first] == [f"accuracy_ttft.{kind}" for kind in ("svg", "pdf", "png", "csv")]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    starts = {path.suffix: path.read_bytes()[:8] for path in first}
    assert (starts[".pdf"][:5], starts[".png"]) == (b"%PDF-", b"\x89PNG\r\n\x1a\n")


def test_all_figures_of_all_sweeps(write, make_result, reusing, tmp_path, blank_pictures):
    """Catches two sweeps that overwrite each other's figures, and a figure that is neither there nor left out."""
    results = write(make_result(DENSE, samples=12), reusing(LOW), make_result(DENSE, sweep="lone"))
    done = save_figures(Results(results), tmp_path / "out")
    names = {
        "accuracy_ttft", "fidelity_memory", "ttft_phases", "speedup_length", "reuse_warmup", "no_reuse_reasons",
        "sensitivity", "fidelity_layers", "kl_computed", "figure_1", "figure_4", "figure_a1", "figure_a3",
        "figure_a4_a11", "figure_a12",
    }  # fmt: skip
    assert {one.name for one in done.left_out if one.sweep == "lone"} == names
    of_one = names - {"accuracy_ttft", "ttft_phases", "speedup_length", "reuse_warmup"}
    of_one -= {"fidelity_layers"}
    assert {one.name for one in done.left_out if one.sweep == "s"} == of_one
    assert [one.name for one in done.in_no_sweep()] == [name for name in FIGURES if name in of_one]
    files = sorted(str(path) for path in (tmp_path / "out").rglob("*.*"))
    assert files == sorted(file for one in done.saved for file in one.files)
    assert len(files) == 4 * 6


def test_readable_in_print(write, make_result, reusing):
    """Catches sizes that no column has, labels without units, methods that look alike, and settings that leak out."""
    before = dict(matplotlib.rcParams)
    records = Results(write(make_result(DENSE, samples=12), reusing(LOW), reusing(HIGH)))
    (single,) = accuracy_ttft(records)
    for name, style in STYLES.items():
        with in_style(name):
            (column,) = reuse_warmup(records)
            (phases,) = ttft_phases(records)
        assert (column.figure.get_figwidth(), phases.figure.get_figwidth()) == (style.column_in, style.page_in)
        sizes = {
            text.get_fontsize() for one in (column, phases) for text in one.figure.findobj(Text) if text.get_text()
        }
        assert min(sizes) >= style.small_points, "nothing is smaller than the style's small text"
    for axes in single.figure.axes:
        assert "(" in axes.get_xlabel()
        assert "(" in axes.get_ylabel()
    assert dict(matplotlib.rcParams) == before
    arms = ["dense", "prefix", "naive", "cacheblend", *(f"kvcomm {n}" for n in range(12))]
    assert len(set(looks(arms).values())) == len(arms)
    assert looks(["kvcomm x"])["kvcomm x"] == looks(["dense", "kvcomm x"])["kvcomm x"]


@pytest.mark.slow
def test_no_pyplot():
    """Catches figures that pile up in pyplot's memory, or want a display."""
    code = "import sys, analysis.figures.saving; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
