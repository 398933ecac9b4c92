"""The tests of a ledger on made-up rows, beside scipy's and beside Holm's rule written out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from analysis.claims.hypotheses import Hurdle, examine, holm
from analysis.claims.ledger import Claim
from analysis.claims.resampling import RESAMPLES
from analysis.power import items_needed


def claim(measure="kl_next_token", **fields):
    given = {"id": "x", "says": "x", "source": "x", "sweep": "x", "tasks": ["recall"], "ours": {"method": "kvcomm"}}
    sides = {} if {"along", "than"} & fields.keys() else {"theirs": {"method": "dense"}}
    return Claim(**{**given, **sides, "measure": measure, **fields})


def rows(values):
    return pd.DataFrame({"item": [f"i{index}" for index in range(len(values))], "value": values})


def answers(text):
    return rows([100.0 if mark == "+" else 0.0 for mark in text])


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_superior_is_the_paired_test(direction):
    """Catches an unpaired test, a margin on the wrong side, and a direction that is ignored."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=200) * 5
    ours, theirs = base + rng.normal(size=200) * 0.7 + 0.1, base
    found = examine(claim(test="superior", margin=0.05, direction=direction), [rows(ours), rows(theirs)])
    sign = 1 if direction == "higher" else -1
    alternative = {"higher": "greater", "lower": "less"}[direction]
    known = ttest_rel(ours, theirs + sign * 0.05, alternative=alternative).pvalue
    assert found.p_for == pytest.approx(known, abs=0.02)
    assert found.p_against == pytest.approx(1 - known, abs=0.02)
    assert found.effect == pytest.approx(np.mean(ours - theirs))
    assert found.low < found.effect < found.high


def test_a_fixed_number_is_no_second_arm():
    """Catches a threshold that is subtracted from what is shown."""
    values = np.linspace(5, 9, 200)
    found = examine(claim(measure="speedup", test="superior", than=6.0), [rows(values)])
    assert found.effect == pytest.approx(7)
    assert found.p_for < 0.001 < 0.99 < found.p_against
    assert examine(claim(measure="speedup", test="superior", than=8.0), [rows(values)]).p_against < 0.001


def test_margins_of_answers():
    """Catches equality taken for proof: 40 equal answers say little about a loss of 3 points, 400 say enough."""
    for n, enough in ((40, False), (400, True)):
        equal = answers("+-" * (n // 2))
        for test in ("noninferior", "equivalent"):
            found = examine(claim("accuracy", test=test, margin=3.0), [equal, equal])
            assert (found.p_for < 0.025) == enough
            assert found.p_against > 0.5
    lost, kept = answers("-" * 20 + "+" * 80), answers("+" * 100)
    found = examine(claim("accuracy", test="noninferior", margin=3.0), [lost, kept])
    assert found.effect == -20
    assert found.p_against < 0.001
    assert examine(claim("accuracy", test="equivalent", margin=3.0), [kept, lost]).p_against < 0.001


def test_ordered_needs_every_step():
    """Catches a trend that hides a step back, and a claim that no step can contradict."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(3, 300)) * 0.1
    ordered = claim(test="ordered", margin=0.05, along={"agents": [2, 3, 4]})
    rising = examine(ordered, [rows(level + own) for level, own in zip((1, 2, 3), noise, strict=True)])
    assert rising.p_for < 0.001
    assert rising.effect == pytest.approx(2, abs=0.05)
    back = examine(ordered, [rows(level + own) for level, own in zip((1, 4, 3), noise, strict=True)])
    assert back.p_for > 0.9
    assert back.p_against < 0.002
    falling = claim(test="ordered", margin=0.05, along={"agents": [2, 3, 4]}, direction="lower")
    assert examine(falling, [rows(level + own) for level, own in zip((3, 2, 1), noise, strict=True)]).p_for < 0.001


def test_hurdles_say_how_many_items():
    """Catches a plan at the observed difference where the margin was to be planned, and a certain plan on the edge."""
    half_right = answers("+-" * 50)
    other = answers("-+" * 5 + "+-" * 45)
    [needed] = examine(claim("accuracy", test="noninferior", margin=3.0), [half_right, other]).hurdles
    assert items_needed(0.1, 0.03) <= needed.items(100, 0.05, 0.8) <= 1.1 * items_needed(0.1, 0.03)
    assert Hurdle(0.5, 0.5, 1.0, margin=False).items(10, 0.05, 0.8) is None
    assert Hurdle(0.5, 0.4, 1.0, margin=False).items(10, 0.05, 0.8) == 785
    assert Hurdle(0.5, -1.0, 1.0, margin=True).items(10, 0.05, 0.8) == items_needed(1.0, 1.5)


@pytest.mark.parametrize(("n", "margin"), [(20, 5.0), (100, 3.0), (100, 5.0), (400, 2.0)])
def test_items_that_never_differ_are_no_certainty(n, margin):
    """Catches two arms that reuse the same turns of a few items, and count as surely equal: resamples of nothing but
    zeros never differ, but a share of all items that differs wholly may have been missed by chance."""
    equal = examine(claim("turn_reuse", test="equivalent", margin=margin), [rows([100.0] * n)] * 2)
    assert equal.p_for >= (1 - margin / 100) ** n
    assert equal.p_for == pytest.approx(max((1 - margin / 100) ** n, 1 / (1 + RESAMPLES)))
    unbounded = examine(claim("kl_next_token", test="equivalent", margin=margin), [rows([100.0] * n)] * 2)
    assert unbounded.p_for == pytest.approx(1 / (1 + RESAMPLES))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm(p_values):
    """Catches factors that are off by one, and adjusted values that change order. Beside the rule, step by step."""
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, left = set(), sorted(range(len(p_values)), key=lambda index: p_values[index])
        while left and p_values[left[0]] * len(left) <= level:
            rejected.add(left.pop(0))
        assert {index for index, value in enumerate(adjusted) if value <= level} == rejected
