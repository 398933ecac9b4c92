"""The table of answers, on made-up results whose rates can be counted by hand."""

import dataclasses
import io

import pytest
from rich.console import Console

from analysis.results import Results
from analysis.tables.answer_table import answer_rows, render_answers
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
KVCOMM = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig())


def answered(result: TrialResult, *answers: str | None) -> TrialResult:
    """The result with these last words, of which ``1`` is right and None cannot be read."""
    outcome = {"1": "correct", None: "unparsable"}
    samples = [
        dataclasses.replace(sample, extracted=answer, outcome=outcome.get(answer, "wrong"))
        for sample, answer in zip(result.samples, answers, strict=True)
    ]
    return dataclasses.replace(result, samples=samples)


def test_last_words_beside_those_of_dense(write, make_result) -> None:
    """Six items. Would catch agreement counted over unreadable answers, or two different wrong answers taken for one,
    and the rates of the arm itself for those beside dense."""
    dense = answered(make_result(DENSE, samples=6), "1", "1", "2", "3", None, None)
    ours = answered(make_result(KVCOMM, samples=6), "1", "2", "2", "4", None, "1")
    of_dense, row = answer_rows(Results(write(ours, dense)))
    assert (of_dense.cell, of_dense.same_outcome, of_dense.same_answer) == ("recall, 2 agents, dense", None, None)
    assert (of_dense.accuracy.value, of_dense.unparsable) == (2 / 6, 2 / 6)
    assert row.accuracy.value == pytest.approx(2 / 6)
    assert row.accuracy.low == pytest.approx(0.0968, abs=1e-4), "Wilson's interval of 2 of 6"
    assert row.unparsable == pytest.approx(1 / 6)
    assert row.same_outcome.value == pytest.approx(4 / 6)
    assert (row.same_answer.value, row.same_answer.n) == (pytest.approx(2 / 5), 5)


def test_dense_beside_dense_in_other_batches(write, make_result) -> None:
    """Would catch noise that is that of the arm beside itself, of the same batches in another order, or of kvcomm."""
    alone = answered(make_result(DENSE, samples=5), "1", "1", "2", "3", None)
    batched = answered(make_result(dataclasses.replace(DENSE, batch_size=4), samples=5), "1", "2", "2", "4", None)
    reused = answered(make_result(dataclasses.replace(KVCOMM, batch_size=4), samples=5), *"22222")
    shuffled = dataclasses.replace(DENSE, workload=RecallSpec(order="ascending"))
    other = answered(make_result(shuffled, samples=5), *"55555")
    rows = {row.cell: row for row in answer_rows(Results(write(alone, batched, reused)))}
    for batch in (1, 4):
        row = rows[f"recall, 2 agents, dense, batch_size={batch}"]
        assert (row.same_outcome.value, row.same_outcome.n) == (pytest.approx(4 / 5), 5)
        assert (row.same_answer.value, row.same_answer.n) == (0.5, 4)
    assert rows["recall, 2 agents, kvcomm, batch_size=4"].same_answer.value == pytest.approx(2 / 5)
    with_other = {row.cell: row for row in answer_rows(Results(write(other)))}
    for order in ("ascending", "file"):
        row = with_other[f"recall order={order}, 2 agents, dense, batch_size=1"]
        assert (row.same_outcome.n, row.noise) == (5, True), "beside the batches of 4 alone"


def test_answers_of_reuse_turns_beside_those_of_dense_turns(write, make_result) -> None:
    """Would catch partial turns left out, and the dense arm's turns taken for the arm's own."""
    result = make_result(KVCOMM, samples=3)
    modes = ["dense", "dense", "reuse", "reuse", "partial", "partial"]
    outcomes = ["correct", "wrong", "correct", "correct", "wrong", "unparsable"]
    turns = [
        dataclasses.replace(turn, mode=mode, outcome=outcome)
        for turn, mode, outcome in zip(result.turns, modes, outcomes, strict=True)
    ]
    [row] = answer_rows(Results(write(dataclasses.replace(result, turns=turns))))
    assert (row.reuse_turns.value, row.reuse_turns.n) == (0.5, 4)
    assert (row.dense_turns.value, row.dense_turns.n) == (0.5, 2)
    assert (row.same_outcome, row.same_answer) == (None, None), "there is no dense arm"


def test_what_is_unknown_is_a_dash(write, make_result) -> None:
    """Would catch 0 % for a method without a dense arm, and a failed cell among the answers."""
    records = Results(write(make_result(KVCOMM, samples=1), make_result(DENSE, status="oom")))
    rows = answer_rows(records)
    assert [row.cell for row in rows] == ["recall, 2 agents, kvcomm"]
    out = io.StringIO()
    Console(file=out, width=200).print(render_answers(rows))
    assert out.getvalue().splitlines()[-1].split()[4:] == ["100.0%", "21-100", "0.0%", "-", "-", "-", "100.0%"]
