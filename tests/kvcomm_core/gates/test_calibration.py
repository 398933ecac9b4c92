"""The promise of ``calibrated``, on streams of turns whose KL is made up."""

import json
import math
import random

import pytest

from kvcomm_core.gates.attempt import Facts
from kvcomm_core.gates.calibration import DOUBT, STAKES, Calibration, Observation

MAX_KL, ALPHA = 0.1, 0.1
GOOD, BAD = 0.01, 0.5


def facts(template: str = "1", samples: int = 5) -> Facts:
    return Facts(template, samples, estimated_tokens=50, unseen_tokens=0)


def audit(calibration: Calibration, kl: float, template: str = "1") -> None:
    turn = facts(template)
    calibration.add([Observation(turn, calibration.predict(turn), kl)])


def trusts(calibration: Calibration, template: str = "1") -> bool:
    return calibration.trusts(calibration.predict(facts(template)))


def test_wealth_grows_by_the_rule_written_out() -> None:
    """The rung of all turns, after each of many audits. Catches stakes that pay more than the claim allows, and a mean
    over stakes that is taken before the product."""
    calibration, chance = Calibration(MAX_KL, ALPHA), random.Random(0)
    wealth = dict.fromkeys(STAKES, 1.0)
    seen = set()
    for _ in range(60):
        kl = BAD if chance.random() < 0.03 else GOOD
        calibration.add([Observation(facts(), None, kl)])  # nothing predicted, so on the first rung alone
        for stake in STAKES:
            gain = 1 - stake if kl > MAX_KL else 1 + stake * ALPHA / (1 - ALPHA)
            wealth[stake] = min(3 / DOUBT, wealth[stake] * gain)
        expected = sum(wealth.values()) / len(STAKES) >= 1 / DOUBT
        assert calibration.trusts(None) == expected
        seen.add(expected)
    assert seen == {False, True}


def test_a_stake_gains_nothing_on_average_while_the_claim_is_true() -> None:
    """The heart of the promise. Catches odds that pay the gambler, whatever the wealth does in one stream."""
    for stake in STAKES:
        good, bad = 1 + stake * ALPHA / (1 - ALPHA), 1 - stake
        assert (1 - ALPHA) * good + ALPHA * bad == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_turns_that_exceed_too_often_are_rarely_trusted(rate: float) -> None:
    """150 streams of 100 audits each, looked at after each one. Catches a test that may be repeated only once, as one
    of fixed size would be: such a test opens in a third of the streams with a rate of 0.1."""
    opened = 0
    for seed in range(150):
        calibration, chance = Calibration(MAX_KL, ALPHA), random.Random(seed)
        for _ in range(100):
            calibration.add([Observation(facts(), None, BAD if chance.random() < rate else GOOD)])
            if calibration.trusts(None):
                opened += 1
                break
    assert opened / 150 <= DOUBT + 2 * math.sqrt(DOUBT * (1 - DOUBT) / 150)


@pytest.mark.slow
def test_ten_streams_keep_the_promise_and_reuse() -> None:
    """Two in a hundred turns exceed, every turn is judged before it is known, and one in twenty reused turns is
    audited. Catches a calibration that keeps its promise by never reusing, or by auditing everything."""
    for seed in range(10):
        calibration, chance = Calibration(MAX_KL, ALPHA), random.Random(seed)
        reused, since = [], 0
        for _ in range(600):
            kl = BAD if chance.random() < 0.02 else math.exp(chance.gauss(-4.5, 0.8))
            is_reused = trusts(calibration)
            since += is_reused or since > 0
            if is_reused:
                reused.append(kl)
            if not is_reused or chance.random() < 0.05:
                audit(calibration, kl)
        assert sum(kl > MAX_KL for kl in reused) <= ALPHA * len(reused)
        assert len(reused) >= 0.95 * since
        assert since >= 450


def test_only_the_templates_that_go_well_are_trusted() -> None:
    """Agent 1's turns exceed, agent 2's do not. Catches a prediction that mixes the agents, and rungs that all turns
    stand on."""
    calibration = Calibration(MAX_KL, ALPHA)
    for _ in range(60):
        audit(calibration, BAD, "1")
        audit(calibration, GOOD / 4, "2")
    assert not trusts(calibration, "1")
    assert trusts(calibration, "2")


def test_a_change_is_noticed_within_three_audits() -> None:
    """Catches wealth without a limit, which would outlive a change by as many audits as came before it."""
    calibration = Calibration(MAX_KL, ALPHA)
    for _ in range(500):
        audit(calibration, GOOD)
    assert trusts(calibration)
    for _ in range(3):
        audit(calibration, BAD)
    assert not trusts(calibration)


def test_a_snapshot_does_not_learn() -> None:
    """Catches a request that sees what others learn while it runs."""
    calibration = Calibration(MAX_KL, ALPHA)
    early = calibration.snapshot()
    for _ in range(60):
        audit(calibration, GOOD)
    assert (trusts(early), trusts(calibration)) == (False, True)
    assert early.predict(facts()) is None


def test_a_description_restores_the_same_decisions() -> None:
    """Through JSON. Catches a prediction or wealth that a resumed trial loses."""
    calibration, chance = Calibration(MAX_KL, ALPHA), random.Random(1)
    for _ in range(40):
        audit(calibration, math.exp(chance.gauss(-4.0, 1.0)), chance.choice("12"))
    restored = Calibration(MAX_KL, ALPHA)
    restored.restore(json.loads(json.dumps(calibration.describe())))
    for template in "12":
        assert restored.predict(facts(template)) == calibration.predict(facts(template))
        assert trusts(restored, template) == trusts(calibration, template)
    audit(restored, GOOD)
    audit(calibration, GOOD)
    assert restored.describe() == calibration.describe()
