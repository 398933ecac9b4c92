"""Picks of judges beside dense's, against the same numbers counted one by one, and how they are shown."""

import dataclasses
import io
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import with_picks, write_results
from rich.console import Console

from analysis import judging
from analysis.arms import Arms
from analysis.results import Results
from analysis.tables.judge_table import judge_rows, render_judges, show_judges, shuffle_rows
from harness.spec import TrialSpec
from harness.workloads.judge import JudgeSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(workload=JudgeSpec())
REUSING = dataclasses.replace(DENSE, method="kvcomm")


def logprobs(letters, lead=2.0):
    """Log-probabilities in which each letter leads."""
    return [{letter: -0.5 if letter == pick else -0.5 - lead for letter in "ABC"} for pick in letters]


def slow_kappa(ours, theirs):
    n = len(ours)
    observed = sum(a == b for a, b in zip(ours, theirs, strict=True)) / n
    chance = sum((ours.count(letter) / n) * (theirs.count(letter) / n) for letter in "ABC")
    return observed, chance, None if chance == 1 else (observed - chance) / (1 - chance)


@pytest.fixture
def beside(tmp_path, make_result):
    """``beside(ours, theirs)``: the decisions of an arm and of dense with these log-probabilities by sample."""

    def decided(ours, theirs):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        dense, arm = (
            with_picks(make_result(spec, samples=len(own)), own) for spec, own in ((DENSE, theirs), (REUSING, ours))
        )
        return judging.decisions(Arms(Results(write_results(folder, dense, arm))).of([arm.trial.trial_id]))

    return decided


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("ABCABCAB", "ABCCBAAB"), ("AAAAAAAA", "AAAAAAAA"), ("AAAAAAAA", "AAABAAAA"), ("CCABBACA", "ABCABCAB")],
)
def test_consistency_chance_and_kappa(beside, ours, theirs):
    """Catches a judge that always says A and is called as good as dense: its kappa is unknown, or 0."""
    picks = beside(logprobs(ours), logprobs(theirs))
    observed, chance, expected = slow_kappa(ours, theirs)
    assert judging.consistency(picks).value == pytest.approx(observed)
    assert judging.consistency(picks).low < 1
    assert judging.by_chance(picks) == pytest.approx(chance)
    found = judging.kappa(picks)
    if expected is None:
        assert found is None
    else:
        assert found.value == pytest.approx(expected)
        assert found.n == 8


def test_an_interval_of_kappa_only_where_every_resample_has_one(beside):
    """Catches an interval made of the resamples that happen to have two letters."""
    rare = judging.kappa(beside(logprobs("A" * 7 + "B"), logprobs("A" * 7 + "B")))
    assert (rare.value, rare.low, rare.high) == (pytest.approx(1.0), None, None)
    usual = judging.kappa(beside(logprobs("AB" * 60), logprobs("AB" * 55 + "BA" * 5)))
    assert usual.low < usual.value < usual.high


@given(st.lists(st.tuples(*[st.floats(-9, 0)] * 6), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_mean_logprobs_are_means(rows):
    turns = [{"A": row[0], "B": row[1]} for row in rows]
    found = judging.mean_logprobs(turns)
    assert found == pytest.approx(
        {"A": math.fsum(r[0] for r in rows) / len(rows), "B": math.fsum(r[1] for r in rows) / len(rows)}
    )


def test_balanced_picks_have_no_preferred_letter(beside):
    """A judge that prefers A by three nats, whose preference hides what it thinks of the candidates. Catches offsets of
    the arm instead of dense's, by which an arm that shifts all picks would look consistent."""
    rng = random.Random(0)
    thoughts = [{letter: rng.gauss(0, 0.5) for letter in "ABC"} for _ in range(40)]
    dense = [{**own, "A": own["A"] + 3} for own in thoughts]
    shifted = [{**own, "B": own["B"] + 0.4} for own in dense]
    picks = beside(shifted, dense)
    assert judging.consistency(picks).value == 1.0
    assert judging.kappa(picks) is None
    mean = {letter: sum(own[letter] for own in dense) / 40 for letter in "ABC"}

    def balanced(turns):
        return [max("ABC", key=lambda letter: own[letter] - mean[letter]) for own in turns]

    expected = sum(a == b for a, b in zip(balanced(shifted), balanced(dense), strict=True)) / 40
    assert 0.4 < expected < 1
    assert judging.consistency(picks, "balanced").value == pytest.approx(expected)
    assert judging.kappa(picks, "balanced").value == pytest.approx(slow_kappa(balanced(shifted), balanced(dense))[2])


def test_other_prompts_do_not_count(write, make_result):
    """Catches picks compared with dense's after another prompt, whose candidates may be others."""
    dense = with_picks(make_result(DENSE, samples=6), logprobs("AAAAAA"))
    arm = with_picks(make_result(REUSING, samples=6), logprobs("AAAAAB"))
    other = [
        dataclasses.replace(turn, prompt_sha256="f" * 64) if turn.sample_index == 5 else turn for turn in arm.turns
    ]
    results = Results(write(dense, dataclasses.replace(arm, turns=other)))
    picks = judging.decisions(Arms(results).of([arm.trial.trial_id]))
    assert len(picks) == 5
    assert judging.consistency(picks).value == 1.0


def test_rows_and_their_table(write, make_result):
    """Catches dense compared with itself, shares of the wrong arm, and letters that the judge never wrote."""
    dense = with_picks(make_result(DENSE, samples=6), logprobs("ABABAC"))
    own = logprobs("ABABAA")
    own[0] = {"A": -3.0, "B": -4.0, "C": -5.0}
    folder = write(dense, with_picks(make_result(REUSING, samples=6), own))
    first, second = judge_rows(Results(folder))
    assert (first.n_picks, first.consistency, first.kappa, first.by_chance) == (6, None, None, None)
    assert first.letters == pytest.approx({"A": 1 / 2, "B": 1 / 3, "C": 1 / 6})
    assert first.spelled_out.value == 1.0
    assert second.letters == pytest.approx({"A": 2 / 3, "B": 1 / 3})
    assert second.spelled_out.value == pytest.approx(5 / 6)
    assert second.consistency.value == pytest.approx(5 / 6)
    assert second.accuracy.value == pytest.approx(0.5)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_judges([first, second]))
    text = console.export_text()
    assert "A 50% B 33% C 17%" in text
    assert "83.3%" in text


def test_the_same_candidates_in_another_order(write, make_result, tmp_path):
    """Two orders, of which the judge picks the same candidate's text in four of six. Catches letters compared instead
    of candidates, and an order compared with itself."""
    arms = []
    for shuffle, picks in ((0, "AAAAAA"), (1, "AAAABB")):
        spec = dataclasses.replace(DENSE, workload=JudgeSpec(shuffle=shuffle))
        arms.append(with_picks(make_result(spec, samples=6), logprobs(picks)))
    [row] = shuffle_rows(Results(write(*arms)))
    assert row.same_candidate.value == pytest.approx(4 / 6)
    assert row.same_candidate.n == 6
    assert "shuffle" not in row.cell
    swapped = [
        dataclasses.replace(turn, output_text=f"candidate {3 - turn.agent_index}") if turn.agent_index < 3 else turn
        for turn in arms[1].turns
    ]
    [row] = shuffle_rows(
        Results(write_results(tmp_path / "swapped", arms[0], dataclasses.replace(arms[1], turns=swapped)))
    )
    assert row.same_candidate.value == pytest.approx(2 / 6)


def test_results_without_judges_show_nothing(write, make_result):
    """Catches an empty table under every sweep, and results of versions without the column refused."""
    plain = make_result(TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=0.5)))
    for shown in show_judges(Results(write(plain))):
        assert (shown.content, shown.tables) == ([], [])
