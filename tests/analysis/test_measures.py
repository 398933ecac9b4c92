"""What stands in a cell: rates, changes against dense, times by agent and by lengths, and the rendered table."""

import dataclasses
import io
import json
from statistics import mean, median

import pytest
from made_up import with_outcomes
from rich.console import Console
from scipy.stats import binomtest

from analysis.arms import Arms
from analysis.paper.accuracy_tables import table_1
from analysis.paper.cost_tables import table_2, table_3, table_a5, table_a6
from analysis.paper.paper_rendering import render_paper_table
from analysis.results import Results
from harness.results.measurements import ProbeRecord
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.mmlu import MmluSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig

TIMED = TrialSpec(agents=5, method="kvcomm", parameters=KVCommConfig(gamma=1.0), workload=TtftSpec())
MMLU = TrialSpec(agents=2, workload=MmluSpec(limit=8))


def rows_of(tables, **place):
    """Rows of the only table by metric, at one place."""
    (table,) = tables
    return {row.metric: row for row in table.rows if row.place == place}


@pytest.fixture
def mmlu(make_result):
    """``mmlu(method, outcomes, seed=0, order="file", topology="fully_connected")``: a trial with these answers."""

    def make(method, outcomes, seed=0, order="file", topology="fully_connected"):
        workload = MmluSpec(limit=8, order=order)
        spec = dataclasses.replace(MMLU, method=method, seed=seed, topology=topology, workload=workload)
        return with_outcomes(make_result(spec, samples=len(outcomes)), outcomes)

    return make


def test_accuracy_and_its_change(write, mmlu):
    """Catches an unpaired change, a change of the wrong sign, and a reuse rate in tokens instead of turns."""
    results = write(mmlu("dense", "+++++--+"), mmlu("kvcomm", "+---++--"))
    rows = rows_of(table_1(Results(results)), workload="mmlu", method="kvcomm", agents=2)
    accuracy = rows["accuracy"]
    assert (accuracy.paper, accuracy.ours.value, accuracy.ours.n) == (64.7, 37.5, 8)
    wilson = binomtest(3, 8).proportion_ci(method="wilson")
    assert (accuracy.ours.low, accuracy.ours.high) == pytest.approx((100 * wilson.low, 100 * wilson.high))
    assert accuracy.difference == pytest.approx(37.5 - 64.7)
    assert accuracy.change.paper == pytest.approx(64.7 - 47.1)
    assert accuracy.change.ours.value == pytest.approx(100 * (1 - 4) / 8)
    assert accuracy.change.p_value == pytest.approx(2 * (1 + 5) / 2**5)
    assert accuracy.change.ours.low < -37.5 < accuracy.change.ours.high
    assert (rows["reuse_rate"].ours.value, rows["reuse_rate"].ours.n) == (100 * 7 / 8, 16)
    assert rows["reuse_rate"].change is None
    dense = rows_of(table_1(Results(results)), workload="mmlu", method="dense", agents=2)
    assert (dense["accuracy"].change, set(dense)) == (None, {"accuracy"})


def test_cacheblend_counts_tokens(write, mmlu):
    """Catches the paper's two rates of reuse mixed up: cacheblend never reuses a whole prompt."""
    result = mmlu("cacheblend", "++++++++")
    turns = [dataclasses.replace(turn, mode="partial", reused_tokens=80) for turn in result.turns]
    rows = rows_of(
        table_1(Results(write(dataclasses.replace(result, turns=turns)))),
        workload="mmlu", method="cacheblend", agents=2,
    )  # fmt: skip
    assert rows["reuse_rate"].ours.value == pytest.approx(80.0)
    assert rows["accuracy"].change.ours is None


def test_seeds_are_not_independent_answers(write, mmlu):
    """Catches an interval that shrinks because the same items were answered twice, and a p-value from such pairs."""
    once = table_1(Results(write(mmlu("dense", "++++++--"), mmlu("kvcomm", "++++----"))))
    single = rows_of(once, workload="mmlu", method="kvcomm", agents=2)["accuracy"]
    twice = table_1(Results(write(mmlu("dense", "++++++--", 1), mmlu("kvcomm", "++++----", 1))))
    both = rows_of(twice, workload="mmlu", method="kvcomm", agents=2)["accuracy"]
    assert (single.ours.n, single.ours.n_clusters, both.ours.n, both.ours.n_clusters) == (8, 8, 16, 8)
    assert both.ours.value == single.ours.value == 50.0
    assert both.ours.high - both.ours.low > 0.8 * (single.ours.high - single.ours.low)
    assert single.change.p_value == 0.5
    assert both.change.p_value is None
    assert both.change.ours.value == single.change.ours.value == -25.0


@pytest.mark.parametrize(("order", "seed"), [("ascending", 0), ("random", 1)])
def test_dense_of_another_order_is_paired(write, mmlu, order, seed):
    """Catches a change left unknown in table 4, whose dense arm is run in one order and with one seed."""
    reordered = mmlu("kvcomm", "++++++++", seed, order)
    records = Results(write(mmlu("dense", "++++++--"), reordered))
    pairs = Arms(records).of([reordered.trial.trial_id]).paired_samples()
    assert list(pairs["outcome_dense"] == "correct") == [True] * 6 + [False] * 2


def test_dense_of_another_random_topology_is_not_paired(write, mmlu):
    """Catches answers compared that were given by agents who read other agents."""
    random = mmlu("kvcomm", "++++++++", seed=1, topology="random")
    records = Results(write(mmlu("dense", "++++++--", seed=0, topology="random"), random))
    pairs = Arms(records).of([random.trial.trial_id]).paired_samples()
    assert pairs.empty


def timing(make_result, spec, seconds, *, prefix=False):
    """``seconds(arm, repeat, agent)`` as the TTFT of each turn; blending takes a quarter of it, prefill a half."""
    result = make_result(spec)
    turns = []
    for arm in ("dense", "kvcomm", "bare", *(["prefix"] if prefix else [])):
        for repeat in range(3):
            for agent in range(1, spec.agents + 1):
                took = seconds(arm, repeat, agent)
                turns.append(
                    dataclasses.replace(
                        result.turns[0],
                        arm=arm,
                        sample_index=repeat,
                        item_id=f"repeat {repeat}",
                        agent_index=agent,
                        mode="reuse" if arm == "kvcomm" else "dense",
                        ttft_s=took,
                        phase_blend_s=took / 4,
                        phase_prefill_s=took / 2,
                    )
                )
    return dataclasses.replace(result, turns=turns, samples=[])


def test_table_2_is_by_agent(write, make_result):
    """Catches agents and arms mixed up, parts that do not add up, and an interval from three repeats."""
    took = {"dense": lambda r, a: 1.0 * a * (1 + r), "kvcomm": lambda r, a: 0.1 * (3 - r), "bare": lambda r, a: 9.0}
    results = write(timing(make_result, TIMED, lambda arm, r, a: took[arm](r, a)))
    rows = rows_of(table_2(Results(results)), agent=3)
    assert rows["dense"].ours.value == pytest.approx(6000)
    parts = ("alignment", "first_forward", "other")
    assert [rows[part].ours.value for part in parts] == pytest.approx([50, 100, 50])
    assert rows["speedup"].ours.value == pytest.approx(median([3 / 0.3, 6 / 0.2, 9 / 0.1]))
    assert rows.pop("over_prefix").gap == "not measured"
    assert {(row.ours.n, row.ours.low) for row in rows.values()} == {(3, None)}
    assert rows["dense"].difference == pytest.approx(6000 - 258.3)


def test_table_2_sums_the_agents(write, make_result):
    """Catches a mean of the agents' speedups, repeats or arms in the sum, and parts that do not add up to it."""
    took = {
        "dense": lambda r, a: 1.0 * a * (1 + r),
        "kvcomm": lambda r, a: 0.1 * (3 - r) * a,
        "prefix": lambda r, a: 0.5 * a + r,
        "bare": lambda r, a: 9.0,
    }
    results = write(timing(make_result, TIMED, lambda arm, r, a: took[arm](r, a), prefix=True))
    rows = rows_of(table_2(Results(results)), agent="all")
    sums = {arm: sum(of(r, a) for r in range(3) for a in range(1, 6)) / 3 for arm, of in took.items()}
    parts = ("alignment", "first_forward", "other")
    assert [rows[part].ours.value for part in parts] == pytest.approx(
        [1000 * sums["kvcomm"] * share for share in (0.25, 0.5, 0.25)]
    )
    assert rows["dense"].ours.value == pytest.approx(1000 * sums["dense"])
    assert rows["speedup"].ours.value == pytest.approx(sums["dense"] / sums["kvcomm"])
    assert rows["over_prefix"].ours.value == pytest.approx(sums["prefix"] / sums["kvcomm"])
    assert rows["speedup"].ours.value != pytest.approx(mean([10 / 3, 10, 30]), rel=0.1)
    assert {row.ours.n for row in rows.values()} == {3}
    (third,) = [row for row in rows_of(table_2(Results(results)), agent=3).values() if row.metric == "over_prefix"]
    assert third.ours.value == pytest.approx(median([1.5 / 0.9, 2.5 / 0.6, 3.5 / 0.3]))


def test_table_3_is_the_mean_over_agents(write, make_result):
    """Catches a median over agents, rows and columns swapped, and a trial with other anchors in the cell."""
    spec = dataclasses.replace(TIMED, agents=3, workload=TtftSpec(prefix_tokens=64, output_tokens=1024))
    other = dataclasses.replace(spec, workload=TtftSpec(prefix_tokens=64, output_tokens=1024, anchors=10))
    results = [
        timing(make_result, one, lambda arm, r, a, f=f: f * a**2 if arm == "dense" else 1.0)
        for one, f in ((spec, 1), (other, 100))
    ]
    tables = table_3(Results(write(*results)))
    assert rows_of(tables, output_tokens=1024, prefix_tokens=64)["speedup"].ours.value == mean([1, 4, 9])
    (table,) = tables
    assert sum(row.ours is not None for row in table.rows) == 1


def test_table_a5_is_the_match_step(write, make_result):
    """Catches another step's seconds, and anchors and tokens swapped."""
    spec = TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=1.0), workload=BlendSpec(anchors=5, tokens=2048))
    probes = [
        ProbeRecord(trial_id=spec.trial_id, attempt=1, repeat=r, step=step, seconds=seconds * (r + 1), bytes_read=1)
        for step, seconds in (("match", 0.002), ("blend", 0.5))
        for r in range(5)
    ]
    result = dataclasses.replace(make_result(spec), turns=[], samples=[], probes=probes)
    row = rows_of(table_a5(Results(write(result))), tokens=2048, anchors=5)["softmax"]
    assert (row.paper, row.ours.value) == (1.719, pytest.approx(6.0))
    assert row.ours.low < 6.0 < row.ours.high


def test_table_a6_has_sizes_and_says_what_is_not_measured(write, make_result):
    """Catches bytes taken for gigabytes, and a 0 for the offload that turns do not record apart."""
    spec = dataclasses.replace(MMLU, agents=4, method="kvcomm", parameters=KVCommConfig(placement="host"))
    result = make_result(spec, samples=8)
    turns = [dataclasses.replace(turn, phase_match_s=0.01 * turn.agent_index) for turn in result.turns]
    trial = dataclasses.replace(result.trial, pool_bytes_max=2_500_000_000)
    rows = rows_of(table_a6(Results(write(dataclasses.replace(result, trial=trial, turns=turns)))), agents=4)
    assert (rows["memory"].ours.value, rows["memory"].ours.low) == (2.5, None)
    assert rows["softmax"].ours.value == pytest.approx(25.0)
    assert (rows["offload"].ours, rows["offload"].gap, rows["offload"].paper) == (None, "not measured", 1300)


def test_rendering(write, mmlu):
    """Catches a gap that reads as a result, a table without caption, and numbers that JSON cannot hold."""
    (table,) = table_1(Results(write(mmlu("dense", "++++++--"), mmlu("kvcomm", "++++----"))))
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_paper_table(table))
    lines = console.export_text().splitlines()
    assert lines[0] == "Table 1. Accuracy and reuse rate by number of agents."
    assert "ours: embedded" in lines[1]
    (row,) = [line.split() for line in lines if line.startswith("mmlu      kvcomm     2      accuracy")]
    assert " ".join(row) == "mmlu kvcomm 2 accuracy % 64.7 50.0 21.5 to 78.5 -14.7 8 +17.6 -25.0 -59.1 to 15.6 0.500"
    assert sum("not run" in line for line in lines) == len(table.rows) - 3
    document = json.loads(json.dumps(dataclasses.asdict(table), allow_nan=False))
    assert document["rows"][0]["gap"] is None
