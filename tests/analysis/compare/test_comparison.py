"""Two results folders side by side: which cells are the same, and the changes between them."""

import dataclasses
import json
from io import StringIO

import pytest
from made_up import with_fidelity, with_outcomes
from rich.console import Console

from analysis.compare.compare_view import print_changes
from analysis.compare.comparison import compare_results
from analysis.compare.expression import parse
from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
LOW, HIGH = (TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=gamma)) for gamma in (0.1, 0.3))


@pytest.fixture
def side(tmp_path):
    """``side(name, *results)`` writes a results folder."""

    def write(name, *results):
        for result in results:
            writer = ResultsWriter(tmp_path / name, result.trial.sweep)
            writer.write(result)
            writer.close()
        return tmp_path / name

    return write


def test_changes(side, make_result):
    """Catches B and A swapped, ratios the wrong way up, wrong units, and means over turns that only one side has."""
    kvcomm = make_result(LOW, samples=12)
    slower = [
        dataclasses.replace(turn, ttft_s=turn.ttft_s * (3 if turn.mode == "reuse" else 1), reused_tokens=0)
        for turn in kvcomm.turns
    ]
    a = side("a", make_result(DENSE, samples=12), with_fidelity(kvcomm, lambda turn: 0.1))
    worse = with_outcomes(dataclasses.replace(kvcomm, turns=slower), "-" * 12)
    b = side("b", make_result(DENSE, samples=12), with_fidelity(worse, lambda turn: 0.3))
    dense, cell = compare_results(a, b, None).cells
    assert (cell.accuracy_a, cell.accuracy_b, cell.accuracy_change.value) == (50, 0, -50)
    assert cell.accuracy_change.high < 0
    assert (cell.reuse_a, cell.reuse_b, cell.reuse_change.value) == pytest.approx((82.5, 0, -82.5))
    assert (cell.ttft_p50_a, cell.ttft_p50_b) == pytest.approx((100, 300))
    assert cell.ttft_ratio.value == pytest.approx(3)
    assert (cell.kl_a, cell.kl_b, cell.kl_ratio.value) == pytest.approx((0.1, 0.3, 3))
    assert cell.kl_change.value == pytest.approx(0.2)
    assert (cell.speedup_a, cell.speedup_b, cell.speedup_ratio.value) == pytest.approx((2, 2 / 3, 1 / 3))
    assert (dense.accuracy_change.value, dense.ttft_ratio.value) == (0, 1)
    assert (dense.kl_ratio, dense.speedup_a, dense.speedup_ratio, dense.fires) == (None, None, None, None)


def test_only_what_both_have_is_compared(side, make_result):
    """Catches changes over other items or other seeds, and a cell that is told by its seed."""
    a = side("a", make_result(LOW, samples=6), make_result(dataclasses.replace(LOW, seed=1), samples=6))
    b = side("b", make_result(LOW, samples=12), make_result(dataclasses.replace(LOW, seed=2), samples=6))
    (cell,) = compare_results(a, b, None).cells
    assert (cell.n_ok_a, cell.n_ok_b) == (2, 2)
    assert (cell.accuracy_change.n, cell.ttft_ratio.n) == (6, 12)


def test_cells_of_one_side_and_failed_ones(side, make_result):
    """Catches a missing cell passed over, and a failed trial with numbers."""
    a = side("a", make_result(DENSE), make_result(LOW))
    b = side("b", make_result(DENSE, status="error"), make_result(HIGH))
    found = compare_results(a, b, parse("ttft_ratio > 0"))
    (cell,) = found.cells
    assert cell.n_ok_b == 0
    assert {value for name, value in cell.numbers().items() if name.endswith("_b") or "_change" in name} == {None}
    assert cell.fires is None
    console = Console(file=StringIO(), width=200)
    print_changes(found, console)
    lines = console.file.getvalue().splitlines()[-3:]
    assert lines == [
        "only in A: recall, 2 agents, kvcomm gamma=0.1",
        "only in B: recall, 2 agents, kvcomm gamma=0.3",
        "check unknown: recall, 2 agents, dense",
    ]
    json.dumps(found.to_dict())


def test_results_of_another_version(side, make_result):
    """Catches a new field of the spec that leaves nothing to compare, and one that tells cells apart ignored."""
    old, new = make_result(LOW), make_result(LOW)
    spec = json.loads(old.trial.spec_json)
    del spec["rounds"], spec["kvcomm"]["window"]
    old = dataclasses.replace(old, trial=dataclasses.replace(old.trial, spec_json=json.dumps(spec)))
    a = side("a", old)
    found = compare_results(a, side("b", new), None)
    assert (len(found.cells), found.unknown_fields) == (1, ["kvcomm.window", "rounds"])
    more = make_result(dataclasses.replace(LOW, rounds=2))
    found = compare_results(a, side("b", more), None)
    assert (len(found.cells), len(found.only_a), len(found.only_b)) == (0, 1, 2)


def test_a_check_fires_in_the_cell_where_it_holds(side, make_result):
    """Catches a check of the first cell alone, and a ratio to a KL of 0."""
    zero = with_fidelity(make_result(LOW, samples=12), lambda turn: 0.0)
    a = side("a", make_result(DENSE, samples=12), zero)
    b = side("b", make_result(DENSE, samples=12), with_fidelity(make_result(LOW, samples=12), lambda turn: 0.2))
    found = compare_results(a, b, parse("kl_change > 0.1 and kl_change_low > 0.1"))
    assert [cell.fires for cell in found.cells] == [None, True]
    assert found.cells[1].kl_ratio is None
