"""Figures as small SVG panels, beside what matplotlib was asked to draw."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.figures.parts.drawing import error_bars
from analysis.figures.parts.styles import BLUE, ORANGE, styled
from analysis.report.svg.panels import RIGHT, WIDTH, panels_of_figure
from analysis.stats import Estimate


def one_axes():
    return Figure().subplots()


def points(path):
    """Return the points of a path as numbers."""
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", path)]


def elements(panel):
    return list(ElementTree.fromstring(panel).iter())


def of_class(panel, name):
    return [one for one in elements(panel) if name in (one.get("class") or "").split()]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_lines_go_through_their_points(scale):
    """Catches points that the scale, the margins or the y axis, which SVG turns round, put elsewhere."""
    ax = one_axes()
    ax.plot([1, 10, 100], [1, 2, 4], color=BLUE)
    ax.set_xscale(scale)
    ax.set_xlim(1, 100)
    ax.set_ylim(0, 4)
    (panel,) = panels_of_figure(ax.figure).panels
    (line,) = of_class(panel, "blue")
    plot = next(one for one in elements(panel) if one.get("x") and one.tag.endswith("svg"))
    left, top, width, height = (float(plot.get(name)) for name in ("x", "y", "width", "height"))
    assert left + width == WIDTH - RIGHT
    to = np.log10 if scale == "log" else float
    expected = [
        (left + width * (to(x) - to(1)) / (to(100) - to(1)), top + height * (1 - y / 4))
        for x, y in ((1, 1), (10, 2), (100, 4))
    ]
    assert points(line.get("d")) == pytest.approx(np.array(expected), abs=0.06)


def test_gaps_bands_and_bars():
    """Catches a line through an unknown value, a band or a bar left out, and intervals that are not drawn."""
    ax = one_axes()
    ax.plot([0, 1, 2, 3], [1, np.nan, 1, 2], color=BLUE)
    ax.fill_between([0, 1], [0, 0], [1, 1], color=ORANGE, alpha=0.2)
    ax.bar([3], [2], color=BLUE)
    ax.errorbar([1], [1], yerr=error_bars([Estimate(1, 0.5, 2, 9, 9)]), color=BLUE)
    (panel,) = panels_of_figure(ax.figure).panels
    line = next(one for one in of_class(panel, "line") if one.get("d").count("M") == 2)
    assert len(points(line.get("d"))) == 3
    assert len(of_class(panel, "area")) == 1
    (bar,) = of_class(panel, "bar")
    assert len({y for _, y in points(bar.get("d"))}) == 2
    (interval,) = of_class(panel, "thin")
    assert len({x for x, _ in points(interval.get("d"))}) == 1


def test_text_is_text():
    """Catches labels as shapes, text of results as markup, and formulas that a page cannot show."""
    ax = one_axes()
    ax.plot([1, 1000], [1, 2], label=r"a \$b <i>")
    ax.set_xscale("log")
    ax.set_title("<script>&\x1b")
    ax.text(0.5, 0.5, "not run", transform=ax.transAxes)
    found = panels_of_figure(ax.figure)
    texts = ["".join(one.itertext()) for one in elements(found.panels[0]) if one.tag.endswith("text")]
    assert {"<script>&\\x1b", "not run", "1", "10", "100", "1000"} <= set(texts)
    assert [key.label for key in found.keys] == ["a $b <i>"]


def test_unknown_marks_are_refused():
    """Catches a new figure whose marks would be missing from the page without a word."""
    ax = one_axes()
    ax.scatter([1], [1])
    with pytest.raises(TypeError, match="PathCollection, which a page cannot show yet"):
        panels_of_figure(ax.figure)


def test_labels_lie_in_the_middle_of_their_bars():
    """Catches a number that stands on another bar, or beside it."""
    ax = one_axes()
    ax.bar_label(ax.barh(["a", "b"], [2, 4], color=BLUE), ["two", "four"], label_type="center")
    (panel,) = panels_of_figure(ax.figure).panels
    for text, bar in zip(of_class(panel, "on"), of_class(panel, "bar"), strict=True):
        middle = np.mean([min(points(bar.get("d"))), max(points(bar.get("d")))], axis=0)
        assert [float(text.get("x")), float(text.get("y")) - 3.5] == pytest.approx(middle, abs=0.2)


def test_panels_have_their_own_labels():
    """Catches a panel that wraps away from the one panel of its row or column that has the label."""
    figure = Figure()
    axes = figure.subplots(2, 2)
    axes[0, 0].set_ylabel("above")
    axes[1, 0].set_ylabel("below")
    axes[1, 1].set_xlabel("right")
    found = panels_of_figure(figure)
    names = [ElementTree.fromstring(panel).get("aria-label") for panel in found.panels]
    assert names == ["above", "above, by right", "below", "below, by right"]
    assert found.columns == 2


@pytest.mark.slow
def test_categories_get_room():
    """Catches bars of many arms squeezed into the height of a line."""

    @styled
    def height(n):
        ax = one_axes()
        ax.barh([f"arm {index}" for index in range(n)], range(1, n + 1))
        (panel,) = panels_of_figure(ax.figure).panels
        return float(ElementTree.fromstring(panel).get("viewBox").split()[3])

    assert height(12) - height(2) == pytest.approx(180)
