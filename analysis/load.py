"""Read results: each trial once, with the turns and samples of the attempt that counts."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from harness.cells import FlatSpec, flatten
from harness.results.arrow_schemas import RecordTable
from harness.results.parquet_files import read_records, read_trials, sweep_folders


@dataclass(frozen=True, slots=True)
class Records:
    """Four tables with the columns of ``harness.results.trial_result``, plus ``sweep`` in each."""

    trials: pd.DataFrame
    """One row per trial: its latest ``ok`` attempt, or its latest attempt if none is ``ok``."""
    turns: pd.DataFrame
    """Turns of ``ok`` trials."""
    samples: pd.DataFrame
    """Samples of ``ok`` trials."""
    probes: pd.DataFrame
    """Probe timings of ``ok`` trials."""

    @property
    def sweeps(self) -> list[str]:
        """Names of the sweeps."""
        return [str(sweep) for sweep in self.trials["sweep"].unique()]

    def of_sweep(self, sweep: str) -> "Records":
        """Return the records of one sweep."""
        return Records(*(f[f["sweep"] == sweep] for f in (self.trials, self.turns, self.samples, self.probes)))

    def from_sample(self, first: int) -> "Records":
        """Drop the turns and samples before sample index ``first``, which filled the pools.

        Raises ``ValueError`` if no trial has a sample with that index.
        """
        last = 0 if self.turns.empty else int(self.turns["sample_index"].max())
        if not 0 <= first <= last:
            raise ValueError(f"{first}; allowed: 0 to {last}, the index of the last sample")
        turns, samples = (frame[frame["sample_index"] >= first] for frame in (self.turns, self.samples))
        return Records(self.trials, turns, samples, self.probes)

    def each_trial_once(self) -> "Records":
        """Keep one run of each trial that several sweeps ran: the last ``ok`` one, or the last if none is ``ok``."""
        trials = self.trials.assign(_ok=self.trials["status"] == "ok").sort_values(["_ok", "ended_at"], kind="stable")
        trials = trials.drop_duplicates("trial_id", keep="last").drop(columns="_ok").sort_index()
        kept = trials[["sweep", "trial_id"]]
        return Records(trials, *(frame.merge(kept) for frame in (self.turns, self.samples, self.probes)))


@dataclass(frozen=True, slots=True)
class LongTables:
    """Tables with many rows, from ``ok`` trials, with ``sweep`` in each. They are separate because few readers need
    them."""

    fidelity: pd.DataFrame
    """Rows with the columns of ``FidelityRecord``."""
    kv_statistics: pd.DataFrame
    """Rows with the columns of ``KVStatistic``."""
    anchors: pd.DataFrame
    """Rows with the columns of ``AnchorRecord``."""

    def of_sweep(self, sweep: str) -> "LongTables":
        """Return the tables of one sweep."""
        return LongTables(*(f[f["sweep"] == sweep] for f in (self.fidelity, self.kv_statistics, self.anchors)))


def load(results: Path, *, without: Collection[Path] = ()) -> Records:
    """Read all sweeps of a results folder, or one sweep if the folder is that of a sweep.

    Ignore attempts whose files in ``trials`` are in ``without``. Raises ``StoreError``.
    """
    trials, turns, samples, probes = [], [], [], []
    for folder in sweep_folders(results):
        counted = _counted(folder, without)
        trials.append(counted)
        turns.append(_rows(folder, "turns", counted))
        samples.append(_rows(folder, "samples", counted))
        probes.append(_rows(folder, "probes", counted))
    return Records(*(pd.concat(frames, ignore_index=True) for frames in (trials, turns, samples, probes)))


def load_fidelity(results: Path, *, from_sample: int = 0, without: Collection[Path] = ()) -> pd.DataFrame:
    """Read how far keys and values are from dense ones, by turn, layer, kind of segment and part.

    The columns are those of ``FidelityRecord`` and ``sweep``; the rows come from ``ok`` trials and from samples with
    index ``from_sample`` or higher.
    """
    return load_long(results, from_sample=from_sample, without=without).fidelity


def load_long(results: Path, *, from_sample: int = 0, without: Collection[Path] = ()) -> LongTables:
    """Read the long tables of a results folder, or of one sweep if the folder is that of a sweep.

    ``fidelity`` holds samples with index ``from_sample`` or higher. ``without`` is as in ``load``.
    """
    counted = {folder: _counted(folder, without) for folder in sweep_folders(results)}

    def rows(table: RecordTable) -> pd.DataFrame:
        return pd.concat([_rows(folder, table, own) for folder, own in counted.items()], ignore_index=True)

    fidelity = rows("fidelity")
    return LongTables(fidelity[fidelity["sample_index"] >= from_sample], rows("kv_statistics"), rows("anchors"))


def _counted(folder: Path, without: Collection[Path]) -> pd.DataFrame:
    attempts = _frame(read_trials(folder, without=without)).assign(sweep=folder.resolve().name)
    attempts["_ok"] = attempts["status"] == "ok"
    counted = attempts.sort_values(["_ok", "attempt"]).groupby("trial_id").tail(1)
    return counted.sort_values(["started_at", "trial_id"]).drop(columns="_ok")


def _rows(folder: Path, table: RecordTable, counted: pd.DataFrame) -> pd.DataFrame:
    ok = counted[counted["status"] == "ok"]
    names = [f"{trial_id}-{attempt}" for trial_id, attempt in zip(ok["trial_id"], ok["attempt"], strict=True)]
    return _frame(read_records(folder, table, names)).assign(sweep=folder.resolve().name)


def _frame(table: pa.Table) -> pd.DataFrame:
    # Arrow types keep integers as integers in columns with nulls; numpy types would turn them into floats.
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def flat_specs(trials: pd.DataFrame) -> dict[str, FlatSpec]:
    """Return the specs of trials by id, flattened to dotted keys."""
    pairs = zip(trials["trial_id"], trials["spec_json"], strict=True)
    return {str(trial_id): flatten(json.loads(text)) for trial_id, text in pairs}
