"""Names beside marks, and marks that do not cover each other."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures.parts.labels import NAME, Named, apart, ink, label_ends, label_points, laid_out, spread


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).map(sorted))
def test_spread(positions):
    """Catches names that overlap, change their order, or move although there is room."""
    found = spread(positions, 0.1)
    assert all(second - first >= 0.1 - 1e-9 for first, second in itertools.pairwise(found))
    if all(second - first >= 0.1 for first, second in itertools.pairwise(positions)):
        assert found == pytest.approx(positions)
    assert sum(found) == pytest.approx(sum(positions)), "least squares leaves the mean where it was"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=9))
def test_marks_stand_apart(points):
    """Catches marks that still cover each other, those that are drawn elsewhere for no reason, and equal ones."""
    true_N2 = np.array(points, dtype=float)
    moved_N2 = apart(true_N2, 3.0)
    for one, other in itertools.combinations(range(len(points)), 2):
        assert np.hypot(*(moved_N2[one] - moved_N2[other])) >= 3.0 * 0.99
    if len(points) == 1:
        assert np.array_equal(moved_N2, true_N2)
    lone = np.array([[0.0, 0.0], [100.0, 0.0], [200.0, 0.0]])
    assert np.array_equal(apart(lone, 3.0), lone)


def boxes(figure, axes):
    """The boxes of the names in an axes, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    names = [text for text in axes.texts if text.get_gid() == NAME]
    for text in names:
        text.update_positions(renderer)
    # An annotation's own extent has the line to its mark in it.
    return {text.get_text(): Text.get_window_extent(text, renderer) for text in names}


def test_names_of_points_do_not_overlap():
    """Catches names on top of each other where marks are close, and a name at another mark."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    points = [Named(f"kvcomm gamma=0.{n}", 100 + 4 * (n % 3), 50 + n, "#009E73") for n in range(7)]
    axes.plot([point.x for point in points], [point.y for point in points], "o")
    axes.set(xlim=(0, 200), ylim=(0, 100))
    laid_out(axes)
    label_points(axes, points)
    found = boxes(figure, axes)
    assert set(found) == {point.name for point in points}
    for one, other in itertools.combinations(found.values(), 2):
        assert not one.overlaps(other)


def test_names_at_the_ends_of_lines():
    """Catches names in another order than the ends, over each other, or outside of the axes' height."""
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.subplots()
    ends = {f"line {n}": (3.0, 99.0 + 0.01 * n, "#0072B2") for n in range(8)}
    for x, y, color in ends.values():
        axes.plot([0, x], [y - 90, y], color=color)
    label_ends(axes, ends)
    figure.draw_without_rendering()
    found = boxes(figure, axes)
    ordered = sorted(found.items(), key=lambda item: item[1].y0)
    assert [name for name, _ in ordered] == list(ends)
    for (_, below), (_, above) in itertools.pairwise(ordered):
        assert above.y0 - below.y0 >= 5
    frame = axes.get_window_extent()
    assert all(frame.y0 - 8 <= box.y0 and box.y1 <= frame.y1 + 8 and box.x0 >= frame.x1 for box in found.values())


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_ink_is_readable(channels):
    """Catches names in a colour that is too pale to be read on white."""
    color = ink("#{:02X}{:02X}{:02X}".format(*channels))
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    ]
    assert 1.05 / (0.05 + 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]) >= 4.4
