"""Sample sizes against the printed factor and against simulated trials."""

import math

import numpy as np
import pytest

from analysis.power import factor, items_needed


def test_printed_factor():
    """Catches a one-sided 5 % level, whose factor is 6.18, and items that are rounded down."""
    assert factor(0.8) == pytest.approx(7.849, abs=1e-3)
    assert items_needed(0.1, 0.02) == math.ceil(7.8489 * 0.1 / 0.02**2) == 1963
    assert items_needed(0.0, 1.0) == 2


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_power_is_what_was_asked_for(power):
    """Catches a factor that does not change with the power: simulated paired answers without a true difference."""
    discordance, margin = 0.2, 0.05
    n = items_needed(discordance, margin, power=power)
    rng = np.random.default_rng(0)
    ours, theirs, _ = rng.multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], size=20_000).T
    difference = (ours - theirs) / n
    error = np.sqrt(((ours + theirs) / n - difference**2) / n)
    assert np.mean(difference - 1.96 * error > -margin) == pytest.approx(power, abs=0.02)


def test_refusals():
    """Catches a margin of 0, which no number of items excludes, and a power of 1."""
    for arguments in ({"margin": 0.0}, {"margin": 1.0, "power": 1.0}, {"margin": 1.0, "power": 0.0}):
        with pytest.raises(ValueError, match="allowed"):
            items_needed(0.1, **arguments)
