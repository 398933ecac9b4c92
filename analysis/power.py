"""How many items a paired comparison needs.

The mean of n paired differences of variance v has the standard error sqrt(v / n). A one-sided test at level a rejects
'the difference is -d' with probability ``power``, where the true difference is 0, if d is z(1-a) + z(power) standard
errors, so n = v (z(1-a) + z(power))^2 / d^2. For right and wrong answers without a true difference, v is the
discordance p, the share of items that one arm alone answers correctly (J. Liu et al., Statistics in Medicine 21, 2002).
Our intervals are at 95 %, so a is 2.5 %; at a power of 80 % the factor is (1.960 + 0.842)^2 = 7.85.
"""

import math

from scipy.stats import norm

from analysis.stats import CONFIDENCE


def factor(power: float, level: float = 1 - CONFIDENCE) -> float:
    """Return (z(1 - level / 2) + z(power))^2; ``level`` is two-sided.

    Raises ``ValueError`` unless ``power`` is above half the level and below 1.
    """
    if not level / 2 < power < 1:
        raise ValueError(f"power is {power}; allowed: above {level / 2:g} and below 1")
    return float((norm.ppf(1 - level / 2) + norm.ppf(power)) ** 2)


def items_needed(variance: float, margin: float, *, power: float = 0.8, level: float = 1 - CONFIDENCE) -> int:
    """Return the items that show, with this power, that no difference of ``margin`` exists where there is none.

    ``variance`` is that of one item's difference, in the squared unit of ``margin``. At least 2. Raises ``ValueError``
    unless ``margin`` is above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; allowed: above 0")
    return max(2, math.ceil(variance * factor(power, level) / margin**2))
