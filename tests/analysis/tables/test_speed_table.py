"""The speed tables: which turns are paired, what is a median of what, and where there is nothing to say."""

import dataclasses
import io
from statistics import mean, median

import pytest
from rich.console import Console

from analysis.results import Results
from analysis.tables.blend_table import blend_rows, render_blends
from analysis.tables.show import make_tables
from analysis.tables.speed_sums import speed_sums
from analysis.tables.speed_table import render_grids, render_speed, speed_grids, speed_rows
from analysis.tables.sweep_table import cell_rows
from harness.results.measurements import ProbeRecord
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig, MethodConfig

SPEC = TrialSpec(agents=2, method="kvcomm", workload=TtftSpec())
SECONDS = {
    # (arm, repeat, agent): made so that medians of ratios differ from ratios of medians
    ("dense", 0, 1): 8.0, ("dense", 1, 1): 10.0, ("dense", 2, 1): 30.0,
    ("kvcomm", 0, 1): 4.0, ("kvcomm", 1, 1): 1.0, ("kvcomm", 2, 1): 2.0,
    ("bare", 0, 1): 8.0, ("bare", 1, 1): 5.0, ("bare", 2, 1): 20.0,
    ("dense", 0, 2): 20.0, ("dense", 1, 2): 22.0, ("dense", 2, 2): 24.0,
    ("kvcomm", 0, 2): 1.0, ("kvcomm", 1, 2): 2.0, ("kvcomm", 2, 2): 1.0,
    ("bare", 0, 2): 10.0, ("bare", 1, 2): 11.0, ("bare", 2, 2): 12.0,
    ("prefix", 0, 1): 8.0, ("prefix", 1, 1): 5.0, ("prefix", 2, 1): 9.0,
    ("prefix", 0, 2): 9.0, ("prefix", 1, 2): 8.0, ("prefix", 2, 2): 7.0,
}  # fmt: skip


@pytest.fixture
def make_timing(make_result):
    """``make_timing(spec, scale=1.0, **fields)``: the turns of SECONDS with these fields; the method's times divided by
    ``scale``."""

    def make(spec, scale=1.0, **fields):
        result = make_result(spec)
        template = result.turns[0]
        turns = []
        for (arm, repeat, agent), seconds in SECONDS.items():
            own = arm == "kvcomm"
            turns.append(
                dataclasses.replace(
                    template,
                    arm=arm,
                    sample_index=repeat,
                    agent_index=agent,
                    mode="reuse" if own else "dense",
                    prompt_tokens=100 * agent,
                    ttft_s=seconds / scale if own else seconds,
                    phase_blend_s=0.25 * (repeat + 1) if own else 0.0,
                    **{"stop_reason": "given", **fields},
                )
            )
        row = dataclasses.replace(
            result.trial, n_samples=None, n_correct=None, accuracy=None, exclusive=True, others_cpu_s=15.0
        )
        return dataclasses.replace(result, trial=row, turns=turns, samples=[])

    return make


def shown(*renderables) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    for one in renderables:
        console.print(one)
    return console.export_text()


def test_each_agent_has_its_medians_and_paired_ratios(write, make_timing):
    """Catches ratios of medians, arms mixed up, agents mixed up, and phases of the dense arm."""
    first, second = speed_rows(Results(write(make_timing(SPEC))))
    assert (first.agent, first.prompt_tokens, first.n_turns) == (1, 100, 3)
    assert (first.dense_s, first.method_s, first.bare_s) == (10.0, 2.0, 8.0)
    assert first.speedup == median([8 / 4, 10 / 1, 30 / 2]) == 10.0
    assert first.speedup != first.dense_s / first.method_s
    assert first.dense_over_bare == median([8 / 8, 10 / 5, 30 / 20]) == 1.5
    assert first.phases_s == {
        "base_kv": 0.0, "match": 0.0, "estimate": None, "blend": 0.5, "recompute": 0.0, "prefill": 0.1,
    }  # fmt: skip
    assert (first.prefix_s, first.over_prefix) == (8.0, median([8 / 4, 5 / 1, 9 / 2]))
    assert (second.agent, second.prompt_tokens, second.speedup) == (2, 200, 20.0)
    assert (first.exclusive, first.others_cpu_share) == (True, 0.25)
    text = shown(*render_speed([first, second], speed_sums(Results(write()))))
    assert "10.00x" in text
    assert "20.00x" in text
    assert "one trial at a time, 0.25 cores used by other processes" in text
    assert "recompute" not in text
    assert speed_grids([first, second]) == []


def test_all_agents_are_summed(write, make_timing):
    """Catches a mean of ratios, a sum over arms, repeats counted as agents, and a latency of given answers."""
    (whole,) = speed_sums(Results(write(make_timing(SPEC))))
    sums = {
        arm: sum(took for (one, _, _), took in SECONDS.items() if one == arm) for arm in ("dense", "kvcomm", "prefix")
    }
    assert (whole.n_samples, whole.prompt_tokens) == (3, 300)
    assert (whole.dense_s, whole.method_s, whole.prefix_s) == pytest.approx(
        (sums["dense"] / 3, sums["kvcomm"] / 3, sums["prefix"] / 3)
    )
    assert whole.bare_s == pytest.approx(66 / 3)
    assert whole.speedup == pytest.approx(sums["dense"] / sums["kvcomm"])
    assert whole.over_prefix == pytest.approx(sums["prefix"] / sums["kvcomm"])
    assert whole.speedup != pytest.approx(mean([28 / 5, 32 / 3, 54 / 3]))
    assert whole.phases_s["blend"] == pytest.approx(2 * 0.25 * (1 + 2 + 3) / 3)
    assert (whole.latency_s, whole.decode_share, whole.latency_speedup) == (None, None, None)
    text = shown(*render_speed(speed_rows(Results(write())), [whole]))
    (line,) = [line for line in text.splitlines() if line.startswith("  all")]
    assert " ".join(line.split()) == "all 300 22000.0 38000.0 15333.3 3666.7 1000.0 200.0 1.73 10.36x 4.18x"
    assert "answers were given, not decoded" in text


def test_decoded_timings_say_the_share_of_decoding(write, make_timing):
    """Catches decoding of the dense arm divided by the method's latency."""
    (whole,) = speed_sums(Results(write(make_timing(SPEC, stop_reason="length", decode_s=10.0))))
    assert whole.latency_s == pytest.approx(11 / 3 + 20)
    assert whole.decode_share == pytest.approx(20 / (11 / 3 + 20))
    assert whole.latency_speedup == pytest.approx((114 / 3 + 20) / (11 / 3 + 20))
    text = shown(*render_speed(speed_rows(Results(write())), [whole]))
    assert "with decoding (85% of it), a sample takes 23.7 s, a speedup of 2.45x" in text


def test_prefix_is_not_compared_with_itself(write, make_timing):
    """Catches a column of the method beside itself."""
    spec = dataclasses.replace(SPEC, method="prefix", parameters=MethodConfig())
    results = Results(write(make_timing(spec)))
    rows, (whole,) = speed_rows(results), speed_sums(results)
    assert {row.over_prefix for row in rows} == {row.prefix_s for row in rows} == {None}
    assert (whole.prefix_s, whole.over_prefix) == (None, None)
    assert shown(*render_speed(rows, [whole])).count("prefix") == 2


def test_dense_alone_has_no_speedup(write, make_timing):
    """Catches a dense trial compared with itself."""
    rows = speed_rows(Results(write(make_timing(TrialSpec(agents=2, workload=TtftSpec())))))
    assert [(row.method, row.speedup, row.method_s == row.dense_s) for row in rows] == [("dense", None, True)] * 2


def test_the_grid_is_by_output_and_prefix(write, make_timing):
    """Catches rows and columns swapped, cells of other methods mixed in, and a missing cell that counts as 0."""
    cells = {(64, 128): 1.0, (64, 512): 2.0, (1024, 128): 3.0}
    results = [
        make_timing(
            dataclasses.replace(SPEC, workload=TtftSpec(prefix_tokens=prefix, output_tokens=output), parameters=config),
            scale * factor,
        )
        for (prefix, output), scale in cells.items()
        for config, factor in [(KVCommConfig(estimator="l2_norm"), 1.0), (KVCommConfig(estimator="mean"), 10.0)]
    ]
    grids = speed_grids(speed_rows(Results(write(*results))))
    by_title = {grid.title: grid for grid in grids}
    assert len(by_title) == len(grids) == 2
    once = mean([10.0, 20.0])
    for title, grid in by_title.items():
        factor = 10.0 if "mean" in title else 1.0
        assert "prefix_tokens" not in title
        assert (grid.prefix_tokens, grid.output_tokens) == ((64, 1024), (128, 512))
        (low_near, low_far), (high_near, high_far) = grid.speedups
        assert [low_near, low_far, high_near] == pytest.approx([factor * once * n for n in (1, 3, 2)])
        assert high_far is None
    text = shown(*render_grids(grids))
    assert "15.00x" in text
    assert "450.00x" in text
    assert " -" in text


def test_timings_and_graded_trials_have_tables_of_their_own(write, make_timing, make_result):
    """Catches a timing shown with an accuracy, or its dense arm counted as that of another trial."""
    results = write(make_timing(SPEC), make_result(TrialSpec()), make_result(TrialSpec(seed=1), status="error"))
    assert [row.workload for row in cell_rows(Results(results))] == ["recall"]
    tables = make_tables(Results(results)).to_dict()
    assert (len(tables["cells"]), len(tables["speed"]), tables["blending"]) == (1, 2, [])
    graded = {"cells", "no_reuse", "answers", "judges", "judges_shuffled", "fidelity", "scores", "promises"}
    assert set(tables) == graded | {"speed", "speed_sums", "speed_grids", "blending", "n_probes", "traces", "devices"}


def test_a_failed_timing_is_not_an_empty_page(write, make_result):
    """Catches `show` printing nothing at all."""
    tables = make_tables(Results(write(make_result(SPEC, status="error"))))
    console = Console(record=True, file=io.StringIO(), width=80)
    tables.print(console)
    assert console.export_text() == "no timing has finished; kvcomm status says what failed\n"


def test_blending(write, make_result):
    """Catches rates of bytes over the wrong seconds, and rows that are not in the order of their numbers."""
    results = []
    for anchors, tokens in [(20, 64), (5, 1024), (5, 64)]:
        spec = TrialSpec(method="kvcomm", workload=BlendSpec(anchors=anchors, tokens=tokens))
        steps = {"match": (0.1, 1e9), "blend": (0.5, 2e9), "copy": (0.25, 2e9)}
        probes = [
            ProbeRecord(
                trial_id=spec.trial_id, attempt=1, repeat=repeat, step=step, seconds=s * factor, bytes_read=int(read)
            )
            for step, (s, read) in steps.items()
            # The slowest blend meets the fastest copy, so that the ratio of medians is another one.
            for repeat, factor in enumerate((1.0, 2.0, 3.0) if step != "copy" else (3.0, 1.0, 1.0))
        ]
        results.append(dataclasses.replace(make_result(spec), turns=[], samples=[], probes=probes))
    rows = blend_rows(Results(write(*results)))
    assert [(row.tokens, row.anchors) for row in rows] == [(64, 5), (64, 20), (1024, 5)]
    row = rows[0]
    assert (row.match_s, row.fetch_s, row.blend_s, row.copy_s) == (0.2, None, 1.0, 0.25)
    assert (row.match_gb_per_s, row.blend_gb_per_s, row.copy_gb_per_s) == pytest.approx((5.0, 2.0, 8.0))
    assert row.blend_over_copy == pytest.approx(median([0.5 / 0.75, 1.0 / 0.25, 1.5 / 0.25]))
    assert (row.kv_bytes, row.n_repeats, row.exclusive) == (2_000_000_000, 3, False)
    text = shown(*render_blends(rows))
    assert "trials side by side" in text
    assert "fetch" not in text
