"""Looks and names of arms, and which of them share a panel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.figures.parts.looks import RAMPS, joined, looks, ordered_groups, split

STAR = [
    *(f"kvcomm gamma={gamma} max_anchors=20" for gamma in (0.9, 0.1, 0.3, 0.5)),
    *(f"kvcomm gamma=0.3 max_anchors={anchors}" for anchors in (10, 5)),
]
GRID = [f"kvcomm gamma={gamma} max_anchors={anchors}" for gamma in (0.1, 0.3) for anchors in (20, 5, 10, 15)]


def lightness(color):
    """The luminance of a colour, roughly."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return 0.3 * red + 0.59 * green + 0.11 * blue


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=7, unique=True))
def test_hues_in_order(numbers):
    """Catches hues in the order of the rows, or of numbers as text, where 10 is before 9."""
    found = looks(["dense", *(f"kvcomm max_anchors={number}" for number in numbers)])
    shades = [lightness(found[f"kvcomm max_anchors={number}"].color) for number in sorted(numbers)]
    assert shades == sorted(shades, reverse=True)
    assert len(set(shades)) == len(shades)


@pytest.mark.parametrize("arms", [STAR, GRID, ["kvcomm mean gamma=1", "kvcomm mean gamma=2", "kvcomm nearest"]])
def test_looks_differ(arms):
    """Catches two arms with the same colour, marker and line."""
    found = looks(["dense", "prefix", *arms])
    assert len(set(found.values())) == len(arms) + 2
    assert len({(look.marker, look.line, look.color) for look in found.values()}) == len(arms) + 2


def test_a_hue_for_each_parameter_of_a_star():
    """Catches two parameters on one scale of hues, where the order says nothing."""
    found = looks(STAR)
    by_gamma = {found[arm].color for arm in STAR if "=20" in arm and "gamma=0.3" not in arm}
    by_anchors = {found[arm].color for arm in STAR if "=20" not in arm}
    assert by_gamma <= set(RAMPS[0])
    assert by_anchors <= set(RAMPS[1])
    assert found["kvcomm gamma=0.3 max_anchors=20"].color not in (*RAMPS[0], *RAMPS[1])


def test_split():
    """Catches arms that get lost in the split, and a star without its middle in each panel."""
    arms = ["dense", *STAR]
    panels = split(arms)
    assert list(panels) == ["gamma", "max_anchors"]
    assert all({"dense", "kvcomm gamma=0.3 max_anchors=20"} < set(own) for own in panels.values())
    assert {arm for own in panels.values() for arm in own} == set(arms)
    assert {about: len(own) for about, own in split(GRID).items()} == {"gamma=0.1": 4, "gamma=0.3": 4}
    assert split(STAR[:3]) == {"": STAR[:3]}
    many = [f"kvcomm gamma={gamma}" for gamma in range(9)]
    assert split(many) == {"": many}, "one parameter is one panel"


def test_groups_by_words():
    """Catches arms of two estimators in one order."""
    groups = ordered_groups(["a mean x=1", "a mean x=2", "a nearest x=1", "a nearest x=2", "b"])
    assert [list(group.numbers) for group in groups] == [
        ["a mean x=1", "a mean x=2"],
        ["a nearest x=1", "a nearest x=2"],
    ]


@pytest.mark.parametrize(
    ("names", "together"),
    [
        (["gamma=0.1", "gamma=0.3"], "gamma=0.1, 0.3"),
        (["kvcomm mean", "kvcomm nearest"], "kvcomm mean, nearest"),
        (["dense", "kvcomm"], "dense, kvcomm"),
        (["dense"], "dense"),
    ],
)
def test_joined(names, together):
    assert joined(names) == together
