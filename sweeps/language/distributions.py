"""The distributions of ``random``: ``uniform: [0, 1]``, ``log_uniform: [1e-4, 1]``, ``int: [5, 40]``, ``choice: [a,
b]``.

A draw depends only on the seed, the sample's number and the field's name. So the first samples stay the same if a sweep
draws more samples or another field.
"""

import math
import random
from dataclasses import dataclass

from kvcomm_core.config import shown
from sweeps.language.strict_yaml import Plain, SweepError

_BITS = 53
"""Random bits of one draw. ``random()`` is the only method whose results Python keeps across versions."""

_RANGES = {
    "uniform": "[low, high], two numbers, the smaller one first",
    "log_uniform": "[low, high], two numbers above 0, the smaller one first",
    "int": "[low, high], two whole numbers, the smaller one first; both may be drawn",
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """The values that a field may take, and their probabilities."""

    kind: str
    """``uniform``, ``log_uniform``, ``int`` or ``choice``."""
    values: list[Plain]
    """The two ends of a range, or the equally likely choices."""

    def draw(self, purpose: str) -> Plain:
        """Draw a value. Equal purposes give equal values. Fractions keep six digits."""
        number = int(random.Random(purpose).random() * 2**_BITS)
        if self.kind == "choice":
            return self.values[number * len(self.values) >> _BITS]
        low, high = (value for value in self.values if isinstance(value, int | float))
        if isinstance(low, int) and isinstance(high, int) and self.kind == "int":
            return low + (number * (high - low + 1) >> _BITS)
        share = number / 2**_BITS
        if self.kind == "uniform":
            value = low * (1 - share) + high * share
        else:
            value = math.exp(math.log(low) * (1 - share) + math.log(high) * share)
        rounded = float(f"{value:.6g}")
        return rounded if low <= rounded <= high else min(max(value, float(low)), float(high))


def read_distribution(field: str, value: Plain) -> Distribution:
    """Read a distribution such as ``{uniform: [0, 1]}``. Errors name ``field``. Raises ``SweepError``."""
    if not isinstance(value, dict) or len(value) != 1 or not {*value} <= {*_RANGES, "choice"}:
        allowed = f"one of {', '.join([*_RANGES, 'choice'])}, such as {{uniform: [0, 1]}}"
        raise SweepError(f"{field} is {shown(value)}; allowed: {allowed}")
    [(kind, values)] = value.items()
    if kind == "choice":
        if not isinstance(values, list) or not values:
            raise SweepError(f"{field}.choice is {shown(values)}; allowed: a list with at least one value")
    elif not isinstance(values, list) or not _is_range(kind, values):
        raise SweepError(f"{field}.{kind} is {shown(values)}; allowed: {_RANGES[kind]}")
    return Distribution(kind, values)


def _is_range(kind: str, values: list[Plain]) -> bool:
    number = int if kind == "int" else int | float
    ends = [value for value in values if isinstance(value, number) and not isinstance(value, bool)]
    return len(values) == len(ends) == 2 and ends[0] < ends[1] and (kind != "log_uniform" or ends[0] > 0)
