"""The paired test of two arms and its correction, against all sign flips counted one by one."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import with_fidelity

from analysis.arena.errors import turn_errors
from analysis.arena.rows import entries_of
from analysis.arena.separation import holm, item_differences, pair_rows, sign_flip_p
from analysis.results import Results
from harness.spec import TrialSpec


@pytest.mark.parametrize("differences", [[1.0, 2.0, -0.5, 3.0, 0.25, 0.75, -0.1, 2.0], [0.5] * 8, [1.0, -1.0] * 4])
def test_p_is_the_share_of_flips_that_are_as_far(differences):
    """Against all 256 flips. Catches a one-sided test, and ties that rounding loses."""
    observed = abs(sum(differences))
    flips = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((-1, 1), repeat=8)]
    exact = sum(flip >= observed - 1e-9 for flip in flips) / 256
    assert sign_flip_p(np.array(differences)) == pytest.approx(exact, abs=0.01)


def test_no_difference_at_all():
    """Catches arms that are the same called separated."""
    assert sign_flip_p(np.zeros(30)) == 1.0


def test_equal_arms_are_seldom_separated():
    """The p-values of differences around 0 are uniform. Catches a test that is too bold."""
    rng = np.random.default_rng(1)
    found = [sign_flip_p(rng.laplace(size=30), draws=2000) for _ in range(200)]
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.1


def slow_holm(p_values):
    """Step down by the definition: reject the smallest as long as it is below its level."""
    corrected = {}
    for index, own in enumerate(p_values):
        before = [p for p in p_values if p <= own]
        steps = [min(1.0, (len(p_values) - sum(q < p for q in p_values)) * p) for p in before]
        corrected[index] = max(steps)
    return [corrected[index] for index in range(len(p_values))]


@given(st.lists(st.floats(0.0001, 1.0), max_size=9, unique=True))
@settings(max_examples=100, deadline=None)
def test_holm_step_by_step(p_values):
    """Catches Bonferroni's correction, a wrong order, and p-values above 1."""
    assert holm(p_values) == pytest.approx(slow_holm(p_values))


def test_holm_by_hand():
    """Catches a correction in the order of the p-values instead of that of the pairs."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


@pytest.fixture
def entries(write, make_result):
    """``entries(naive=kl, epic=kl, ...)``: the arms of one situation, KL ``kl(sample, agent)`` from dense."""

    def make(samples=40, **by_method):
        results = [make_result(TrialSpec(agents=2), samples=samples)]
        for method, kl in by_method.items():
            result = make_result(TrialSpec(agents=2, method=method, fidelity=1.0), samples=samples)
            turns = [dataclasses.replace(turn, mode="reuse") for turn in result.turns]
            own = dataclasses.replace(result, turns=turns)
            results.append(with_fidelity(own, lambda turn, kl=kl: kl(turn.sample_index, turn.agent_index)))
        [found] = entries_of(Results(write(*results))).values()
        return found

    return make


def test_pairs_of_the_same_turns(entries):
    """Catches an unpaired test: items differ by far more than the arms. Also a sign that is turned round, dense among
    the pairs, and a pair without a difference called separated."""
    hard = np.random.default_rng(0).exponential(5.0, size=41)
    found = entries(
        naive=lambda sample, agent: hard[sample] + 0.02 * agent,
        epic=lambda sample, agent: hard[sample],
        infoflow=lambda sample, agent: hard[sample] + 0.005 * (-1) ** sample,
    )
    rows = pair_rows("s", found, "kl_next_token")
    assert {frozenset((row.better, row.worse)): row.separated for row in rows} == {
        frozenset(("epic", "naive")): True,
        frozenset(("infoflow", "naive")): True,
        frozenset(("epic", "infoflow")): False,
    }
    first = next(row for row in rows if (row.better, row.worse) == ("epic", "naive"))
    assert first.difference.value == pytest.approx(0.03)  # agents 1 and 2: 0.02 and 0.04
    assert first.difference.low <= first.difference.value <= first.difference.high
    assert first.n_items == 40
    assert first.p_holm == pytest.approx(3 * first.p, rel=0.01)
    [continued] = [r for r in pair_rows("s", found, "kl_continuation") if (r.better, r.worse) == ("epic", "naive")]
    assert continued.difference.value == pytest.approx(0.06)


def test_items_that_one_arm_lacks_do_not_count(entries):
    """Catches an item of one arm compared with another item of the other."""
    found = entries(samples=6, naive=lambda s, a: 0.1 * s, epic=lambda s, a: 0.2 * s)
    naive, epic = (turn_errors(entry.arm, "kl_next_token") for entry in found if entry.kind == "method")
    naive, epic = (naive, epic) if naive.sum() < epic.sum() else (epic, naive)
    differences = item_differences(epic[epic.index.get_level_values("sample_index") != 3], naive)
    assert sorted(differences) == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.5])
