"""Accuracy against time to the first token, one point per arm, with the Pareto front."""

import pandas as pd

from analysis import measures
from analysis.figures.drawing import Drawn, Mark, NothingToDrawError, columns_of, draw_marks, finished, panels_of
from analysis.figures.styles import GREY, styled
from analysis.results import Results
from analysis.tables.sweep_table import graded_arms


@styled
def accuracy_ttft(results: Results) -> list[Drawn]:
    """Draw a panel for each workload and number of agents of one sweep, with its Pareto front.

    The time is the average cost of a turn: the mean over all turns, including those before the pools were filled.
    """
    marks = []
    for cell, arm in graded_arms(results).items():
        accuracy, ttft = measures.accuracy(arm), measures.mean_ttft(arm)
        if accuracy is not None and ttft is not None:
            marks.append(Mark(cell.situation, cell.method, ttft, accuracy))
    if len({mark.arm for mark in marks}) < 2:
        raise NothingToDrawError("needs graded trials of two methods or variants; kvcomm run smoke makes them")
    figure, axes, look = panels_of(marks, 2.4)
    data = []
    for ax, by_arm in axes:
        points = [(mark.x.value, mark.y.value) for own in by_arm.values() for mark in own if mark.x is not None]
        front = [points[index] for index in pareto_front(points)]
        xs, ys = zip(*front, strict=True)
        ax.step(xs, ys, where="post", color=GREY, linestyle="--", label="Pareto front", zorder=0)
        for arm_name, (mark,) in by_arm.items():
            draw_marks(ax, [mark], look[arm_name], joined=False)
            assert mark.x is not None  # noqa: S101 - all of them have a time
            row = {"panel": mark.panel, "arm": mark.arm, **columns_of("ttft_ms", mark.x)}
            on_front = (mark.x.value, mark.y.value) in front
            data.append({**row, **columns_of("accuracy_percent", mark.y), "on_front": on_front})
        ax.set_xlabel("mean TTFT (ms)")
        ax.set_ylabel("accuracy (%)")
    return [finished("accuracy_ttft", pd.DataFrame(data), figure)]


def pareto_front(points: list[tuple[float, float]]) -> list[int]:
    """Return the indices of the (cost, gain) points that no other point dominates, by rising cost."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
