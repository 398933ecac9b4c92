"""What the figures of probes share: the trials of one probe, each with its statistics, and their names."""

import json
from dataclasses import dataclass

import pandas as pd

from analysis.figures.drawing import NothingToDrawError, slug
from analysis.load import Records
from harness.cells import flatten, name_cells


@dataclass(frozen=True, slots=True)
class Probed:
    """One trial of a probe. Each has a figure of its own: statistics of several are not pooled."""

    label: str
    """What tells it from the other trials of the probe; empty if there are none."""
    title: str
    """The model and whose questions were read."""
    rows: pd.DataFrame
    """Its statistics: the columns of ``KVStatistic``, numbers as floats."""

    def figure_name(self, base: str) -> str:
        """For a file."""
        return f"{base}_{slug(self.label)}" if self.label else base


def probed(records: Records, statistics: pd.DataFrame, probe: str, figure: str) -> list[Probed]:
    """The trials of a probe that are ``ok``; ``statistics`` is ``LongTables.kv_statistics``.

    Raises ``NothingToDrawError`` if there is none, which names the sweep file ``figure``.
    """
    trials = records.trials[(records.trials["workload"] == probe) & (records.trials["status"] == "ok")]
    if trials.empty:
        raise NothingToDrawError(f"needs a trial of {probe}; kvcomm run sweeps/paper/{figure}.yaml makes it")
    specs = [json.loads(text) for text in trials["spec_json"]]
    cells = name_cells([flatten(spec) for spec in specs])
    found = []
    for trial_id, spec, cell in zip(trials["trial_id"], specs, cells, strict=True):
        rows = statistics[statistics["trial_id"] == trial_id]
        numbers = {name: rows[name].astype("float64") for name in ("value", "n")}
        label = f"{cell} seed {spec['seed']}" if len(specs) > 1 else ""
        found.append(Probed(label, f"{spec['model']}, {spec['workload']['questions']}", rows.assign(**numbers)))
    return found


def by_layer(rows: pd.DataFrame) -> "pd.Series[float]":
    """Values of rows that differ in nothing but the layer, in its order; NaN where not defined."""
    series = pd.Series(rows["value"].to_numpy(dtype=float), index=rows["layer"].to_numpy(dtype=int))
    if not series.index.is_unique:
        raise ValueError("rows differ in more than the layer")
    return series.sort_index()
