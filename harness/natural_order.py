"""The order in which people expect names."""

import re

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


def natural(name: str) -> tuple[tuple[float, str], ...]:
    """Return a sort key that orders numbers in names by value: ``figure_a3`` before ``figure_a12``."""
    return tuple((float(part), "") if odd % 2 else (0.0, part) for odd, part in enumerate(_NUMBER.split(name)))
