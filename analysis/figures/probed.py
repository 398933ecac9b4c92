"""Shared code of the probe figures: the trials of a probe with their statistics and names."""

import json
from dataclasses import dataclass

import pandas as pd

from analysis.figures.parts.drawing import NothingToDrawError, slug
from analysis.results import Results, cells_of


@dataclass(frozen=True, slots=True)
class Probed:
    """One trial of a probe. Each trial has its own figure; statistics are not pooled across trials."""

    label: str
    """Label that tells the trial from the probe's other trials; empty if there are none."""
    title: str
    """Model and source of the questions."""
    rows: pd.DataFrame
    """Statistics of the trial: the columns of ``KVStatistic``, numbers as floats."""

    def figure_name(self, base: str) -> str:
        """Return the name of the figure's file."""
        return f"{base}_{slug(self.label)}" if self.label else base


def probed(results: Results, probe: str, figure: str) -> list[Probed]:
    """Return the ``ok`` trials of a probe.

    Raises ``NothingToDrawError``, which names the sweep file ``figure``, if there are none.
    """
    trials = results.ok_trials[results.ok_trials["workload"] == probe]
    if trials.empty:
        raise NothingToDrawError(f"needs a trial of {probe}; kvcomm run sweeps/paper/{figure}.yaml makes it")
    statistics, found = results.kv_statistics, []
    for trial_id, text, cell in zip(trials["trial_id"], trials["spec_json"], cells_of(trials), strict=True):
        spec, rows = json.loads(text), statistics[statistics["trial_id"] == trial_id]
        numbers = {name: rows[name].astype("float64") for name in ("value", "n")}
        label = f"{cell} seed {spec['seed']}" if len(trials) > 1 else ""
        found.append(Probed(label, f"{spec['model']}, {spec['workload']['questions']}", rows.assign(**numbers)))
    return found


def by_layer(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return the values by layer, of rows that differ only in the layer; NaN where undefined."""
    series = pd.Series(rows["value"].to_numpy(dtype=float), index=rows["layer"].to_numpy(dtype=int))
    if not series.index.is_unique:
        raise ValueError("rows differ in more than the layer")
    return series.sort_index()
