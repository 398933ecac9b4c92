"""Which colour, marker and line an arm has, and which arms share a panel.

Arms that differ in a number, such as ``kvcomm gamma=0.1`` and ``kvcomm gamma=0.3``, have hues in the order of
that number, light to dark. All looks also differ in markers or lines, for printing in greyscale.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.figures.parts.styles import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

MOST_TOGETHER = 6
"""Most arms whose lines one panel can show, if they can be split."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker and line style of one arm."""

    color: str
    marker: str
    line: str


_OF_METHOD = {
    "dense": Look(BLACK, "o", "-"),
    "prefix": Look(GREY, "v", "--"),
    "naive": Look(ORANGE, "s", ":"),
    "cacheblend": Look(SKY, "P", "-."),
}
_VARIANTS = [
    Look(color, marker, line)
    for line, markers in (("-", "o^DX"), ("--", "s<p>"), (":", "vdh*"))
    for color, marker in zip((BLUE, VERMILION, GREEN, PURPLE), markers, strict=True)
]
RAMPS = (
    ("#20A386", "#228D8D", "#2A768E", "#355F8D", "#404588", "#482979", "#46085C"),
    ("#DD5F0C", "#D05104", "#BC4503", "#A63A03", "#913204", "#7B2B05", "#662506"),
    ("#DE3697", "#C71D8C", "#AE017E", "#94017B", "#7A0177", "#620171", "#49006A"),
)
"""Hues in order, light to dark: parts of viridis, YlOrBr and RdPu with a contrast of at least 3 to white."""
_MIDDLE = Look("#555555", "*", "-")
_RAMP_LINES = ("-", "--", ":")
_MARKERS = "o^DsvPX<>p*hd"

_NUMBER = re.compile(r"(\S+?)=(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)")


@dataclass(frozen=True, slots=True)
class Ordered:
    """Arms that differ in numbers alone, and so have an order."""

    numbers: Mapping[str, Mapping[str, float]]
    """The numbers of each arm, by parameter; only parameters in which the arms differ."""

    @property
    def values(self) -> dict[str, list[float]]:
        """Return the values of each parameter, rising."""
        names = next(iter(self.numbers.values()))
        return {name: sorted({own[name] for own in self.numbers.values()}) for name in names}

    @property
    def middle(self) -> dict[str, float]:
        """Return the most frequent value of each parameter, the first one among equals."""
        names = next(iter(self.numbers.values()))
        return {name: Counter(own[name] for own in self.numbers.values()).most_common(1)[0][0] for name in names}

    def away(self, arm: str) -> list[str]:
        """Return the parameters in which an arm differs from the middle."""
        return [name for name, value in self.middle.items() if self.numbers[arm][name] != value]

    @property
    def is_star(self) -> bool:
        """Return whether each arm differs from the middle in at most one of several parameters."""
        return len(self.values) > 1 and all(len(self.away(arm)) <= 1 for arm in self.numbers)


def ordered_groups(arms: Iterable[str]) -> list[Ordered]:
    """Return the groups of two or more arms that differ in numbers alone."""
    by_words: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    for arm in dict.fromkeys(arms):
        found = {match[1]: float(match[2]) for word in arm.split() if (match := _NUMBER.fullmatch(word))}
        words = [word.partition("=")[0] if _NUMBER.fullmatch(word) else word for word in arm.split()]
        by_words.setdefault(tuple(words), {})[arm] = found
    groups = []
    for numbers in by_words.values():
        names = [name for name in next(iter(numbers.values())) if len({own[name] for own in numbers.values()}) > 1]
        if names:
            groups.append(Ordered({arm: {name: own[name] for name in names} for arm, own in numbers.items()}))
    return groups


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """Return the look of each arm: fixed by method, by the order of its number, or else in turn.

    The 13th arm in turn repeats the first.
    """
    found: dict[str, Look] = {}
    variants = families = 0
    for group in ordered_groups(arms):
        own, families = _ordered_looks(group, families)
        found.update(own)
    for arm in dict.fromkeys(arms):
        if arm in found:
            continue
        if arm in _OF_METHOD:
            found[arm] = _OF_METHOD[arm]
        else:
            found[arm] = _VARIANTS[variants % len(_VARIANTS)]
            variants += 1
    return found


def _ordered_looks(group: Ordered, families: int) -> tuple[dict[str, Look], int]:
    """Return looks by family of hues: one for each parameter of a star, else for each value of all but one of them."""
    values, star = group.values, group.is_star
    shade = max(values, key=lambda name: len(values[name]))
    keys: dict[str, tuple[object, str]] = {}  # the family, and the parameter whose value gives the shade
    for arm, own in group.numbers.items():
        if star and not group.away(arm):
            continue
        name = group.away(arm)[0] if star else shade
        keys[arm] = (name if star else tuple(own[other] for other in values if other != shade), name)
    numbered = {family: families + index for index, family in enumerate(dict.fromkeys(key for key, _ in keys.values()))}
    found = {arm: _MIDDLE for arm in group.numbers if arm not in keys}
    for arm, (family, name) in keys.items():
        rank, last, number = values[name].index(group.numbers[arm][name]), len(values[name]) - 1, numbered[family]
        color = RAMPS[number % len(RAMPS)][round(rank * (len(RAMPS[0]) - 1) / last)]
        line = _RAMP_LINES[number // len(RAMPS) % len(_RAMP_LINES)]
        found[arm] = Look(color, _MARKERS[rank % len(_MARKERS)], line)
    return found, families + len(numbered)


def in_order(n: int) -> list[tuple[str, str]]:
    """Return colours and markers of ``n`` series in the order of a number, light to dark."""
    steps = len(RAMPS[0]) - 1
    return [(RAMPS[0][round(index * steps / max(n - 1, 1))], _MARKERS[index % len(_MARKERS)]) for index in range(n)]


def split(arms: Sequence[str]) -> dict[str, list[str]]:
    """Return the arms that share a panel by what they are about, if one panel would hold more than six.

    A star has a panel for each parameter, with its middle in all of them; a grid has one for each value of the
    parameter with the fewest. Other arms are in every panel. A single panel has an empty name.
    """
    arms = list(dict.fromkeys(arms))
    groups = [group for group in ordered_groups(arms) if len(group.numbers) > 2 and len(group.values) > 1]
    if len(arms) <= MOST_TOGETHER or len(groups) != 1:
        return {"": arms}
    (group,) = groups
    values = group.values
    if group.is_star:
        return {
            name: [arm for arm in arms if arm not in group.numbers or set(group.away(arm)) <= {name}] for name in values
        }
    by = min(values, key=lambda name: len(values[name]))
    return {
        f"{by}={value:g}": [arm for arm in arms if arm not in group.numbers or group.numbers[arm][by] == value]
        for value in values[by]
    }


def joined(names: Sequence[str]) -> str:
    """Return several names as one: ``gamma=0.1, 0.3``, or ``kvcomm mean, nearest``."""
    first, *others = names
    for mark in ("=", " "):
        head, _, _ = first.partition(mark)
        if others and all(name.startswith(head + mark) for name in names):
            return ", ".join([first, *(name[len(head) + 1 :] for name in others)])
    return ", ".join(names)
