"""Figures of sweeps with many arms: names in place of long legends, a front, and text that stays text."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from made_up import with_fidelity, with_outcomes

from analysis.figures.accuracy_ttft import accuracy_ttft
from analysis.figures.fidelity_layers import fidelity_layers
from analysis.figures.fidelity_memory import fidelity_memory
from analysis.figures.parts.drawing import MOST_IN_LEGEND
from analysis.figures.parts.labels import NAME
from analysis.figures.parts.styles import STYLES, in_style
from analysis.figures.reuse_warmup import reuse_warmup
from analysis.figures.saving import encoded
from analysis.figures.speedup_length import speedup_length
from analysis.results import Results
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig
from sweeps.cli.result_commands import FigureStyle

GAMMAS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.fixture
def many(write, make_result):
    """Results of dense and of eight values of gamma, all of which take the same time."""
    results = [with_outcomes(make_result(TrialSpec(agents=2), samples=8), "+" * 8)]
    for number, gamma in enumerate(GAMMAS):
        spec = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=gamma))
        result = make_result(spec, samples=8)
        turns = [
            dataclasses.replace(
                turn,
                anchors_in_pool=turn.sample_index,
                ttft_s=turn.ttft_s * (1 + number / 50),
                reused_tokens=turn.reused_tokens - number if turn.reused_tokens else 0,
            )
            for turn in result.turns
        ]
        trial = dataclasses.replace(result.trial, pool_bytes_max=10**6)
        result = dataclasses.replace(result, trial=trial, turns=turns)
        results.append(with_outcomes(with_fidelity(result, lambda turn, n=number: 0.1 + n / 1000), "+" * 6 + "--"))
    return Results(write(*results))


def legend(drawn):
    return [text.get_text() for one in drawn.figure.legends for text in one.get_texts()]


def names(drawn):
    return [text.get_text() for ax in drawn.figure.axes for text in ax.texts if text.get_gid() == NAME]


@pytest.mark.parametrize("draw", [accuracy_ttft, fidelity_memory, fidelity_layers, reuse_warmup, speedup_length])
def test_names_in_place_of_a_long_legend(draw, many):
    """Catches a legend of nine lines, and arms that have neither an entry nor a name."""
    drawn = draw(many)[0]
    assert len(legend(drawn)) <= MOST_IN_LEGEND
    assert {f"gamma={gamma}" for gamma in GAMMAS} <= set(names(drawn)) | set(legend(drawn))
    assert set(names(drawn)) & set(legend(drawn)) == set()


@pytest.mark.parametrize("draw", [accuracy_ttft, fidelity_memory])
def test_marks_and_front(draw, many):
    """Catches marks of one colour that cover each other, a front that is not drawn, or through beaten arms."""
    (drawn,) = draw(many)
    (axes,) = drawn.figure.axes
    marks = [line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata()) == 1]
    assert len(marks) == len(drawn.data)
    places = axes.transData.transform([[line.get_xdata()[0], line.get_ydata()[0]] for line in marks])
    width = marks[0].get_markersize() * drawn.figure.dpi / 72
    for one, other in itertools.combinations(places, 2):
        assert np.hypot(*(one - other)) >= width
    (front,) = [line for line in axes.lines if line.get_label() == "Pareto front"]
    assert "Pareto front" in legend(drawn)
    assert len(front.get_xdata()) == drawn.data["on_front"].sum() + 1, "it goes on to the highest cost"
    assert list(front.get_xdata()) == sorted(front.get_xdata())


def test_the_same_lines_have_one_with_all_names(write, make_result):
    """Catches lines that hide each other, so that a reader looks for one in vain."""
    results = []
    for gamma in (0.1, 0.3, 0.5):
        result = make_result(TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=gamma)), samples=8)
        turns = [dataclasses.replace(turn, anchors_in_pool=0) for turn in result.turns]
        if gamma == 0.5:
            turns = [dataclasses.replace(turn, reused_tokens=0) for turn in turns]
        results.append(dataclasses.replace(result, turns=turns))
    (drawn,) = reuse_warmup(Results(write(*results)))
    assert legend(drawn) == ["kvcomm gamma=0.1, 0.3", "kvcomm gamma=0.5"]
    assert drawn.data["arm"].nunique() == 3, "the numbers are those of every arm"


@pytest.mark.slow
def test_text_is_text(many):
    """Catches letters drawn as outlines, which nobody can search, edit or have read aloud."""
    (drawn,) = accuracy_ttft(many)
    svg = encoded(drawn, "svg").decode()
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert {"mean TTFT (ms)", "accuracy (%)", "Pareto front", "gamma=0.1"} <= set(texts)
    pdf = encoded(drawn, "pdf")
    assert b"/FontFile2" in pdf, "TrueType is embedded"
    assert b"/Type3" not in pdf


def test_styles_of_the_command():
    """Catches a style that the command does not offer, or that it offers and nothing knows."""
    assert [one.value for one in FigureStyle] == list(STYLES)
    with pytest.raises(KeyError), in_style("poster"):
        pass
