"""Accuracy against time to the first token, one point per arm, with the Pareto front."""

import pandas as pd

from analysis import measures
from analysis.figures.parts.drawing import Drawn, Mark, NothingToDrawError, columns_of, finished, panels_of
from analysis.figures.parts.scatter import draw_front, draw_intervals, pareto_front, place_marks
from analysis.figures.parts.styles import styled
from analysis.results import Results
from analysis.tables.sweep_table import graded_arms


@styled
def accuracy_ttft(results: Results) -> list[Drawn]:
    """Draw a panel for each workload and number of agents of one sweep that has two arms, with its Pareto front.

    The time is the average cost of a turn: the mean over all turns, including those before the pools were filled.
    """
    marks: dict[str, list[Mark]] = {}
    for cell, arm in graded_arms(results).items():
        accuracy, ttft = measures.accuracy(arm), measures.mean_ttft(arm)
        if accuracy is not None and ttft is not None:
            marks.setdefault(cell.situation, []).append(Mark(cell.situation, cell.method, ttft, accuracy))
    compared = [mark for own in marks.values() if len(own) > 1 for mark in own]
    if not compared:
        raise NothingToDrawError("needs graded trials of two methods or variants; kvcomm run smoke makes them")
    figure, panels = panels_of(compared, 2.4, lines=False)
    data = []
    for panel in panels:
        draw_intervals(panel)
        points = [(mark.x.value, mark.y.value) for own in panel.marks.values() for mark in own if mark.x is not None]
        front = [points[index] for index in pareto_front(points)]
        draw_front(panel.ax, front, max(x for x, _ in points))
        for (mark,) in panel.marks.values():
            assert mark.x is not None  # noqa: S101 - all of them have a time
            row = {"panel": mark.panel, "arm": mark.arm, **columns_of("ttft_ms", mark.x)}
            on_front = (mark.x.value, mark.y.value) in front
            data.append({**row, **columns_of("accuracy_percent", mark.y), "on_front": on_front})
        panel.ax.margins(x=0.15)
        panel.ax.set_xlabel("mean TTFT (ms)")
        panel.ax.set_ylabel("accuracy (%)")
    drawn = finished("accuracy_ttft", pd.DataFrame(data), figure)
    place_marks(panels)
    return [drawn]
