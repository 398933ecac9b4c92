"""Read results: every trial once, with the turns and samples of the attempt that counts."""

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
    """Four tables with the columns of ``harness.results.trial_result``, and ``sweep`` in each."""

    trials: pd.DataFrame
    """One row per trial: its latest ``ok`` attempt, or its latest attempt if none is."""
    turns: pd.DataFrame
    """Of the trials that are ``ok``."""
    samples: pd.DataFrame
    """Of the trials that are ``ok``."""
    probes: pd.DataFrame
    """Of the trials that are ``ok``."""

    @property
    def sweeps(self) -> list[str]:
        """Names of the sweeps."""
        return [str(sweep) for sweep in self.trials["sweep"].unique()]

    def of_sweep(self, sweep: str) -> "Records":
        """Those of one sweep."""
        return Records(*(f[f["sweep"] == sweep] for f in (self.trials, self.turns, self.samples, self.probes)))

    def from_sample(self, first: int) -> "Records":
        """Without the turns and samples before sample index ``first``, those that filled the pools.

        Raises ``ValueError`` if no trial has a sample of that index.
        """
        last = 0 if self.turns.empty else int(self.turns["sample_index"].max())
        if not 0 <= first <= last:
            raise ValueError(f"{first}; allowed: 0 to {last}, the index of the last sample")
        turns, samples = (frame[frame["sample_index"] >= first] for frame in (self.turns, self.samples))
        return Records(self.trials, turns, samples, self.probes)

    def each_trial_once(self) -> "Records":
        """With a trial that several sweeps ran only as it went in one of them: where it is ``ok``, and last."""
        trials = self.trials.assign(_ok=self.trials["status"] == "ok").sort_values(["_ok", "ended_at"], kind="stable")
        trials = trials.drop_duplicates("trial_id", keep="last").drop(columns="_ok").sort_index()
        kept = trials[["sweep", "trial_id"]]
        return Records(trials, *(frame.merge(kept) for frame in (self.turns, self.samples, self.probes)))


@dataclass(frozen=True, slots=True)
class LongTables:
    """Tables with many rows, of the trials that are ``ok``, with ``sweep`` in each; apart from the others because few
    readers need them."""

    fidelity: pd.DataFrame
    """Columns of ``FidelityRecord``."""
    kv_statistics: pd.DataFrame
    """Columns of ``KVStatistic``."""
    anchors: pd.DataFrame
    """Columns of ``AnchorRecord``."""

    def of_sweep(self, sweep: str) -> "LongTables":
        """Those of one sweep."""
        return LongTables(*(f[f["sweep"] == sweep] for f in (self.fidelity, self.kv_statistics, self.anchors)))


def load(results: Path, *, without: Collection[Path] = ()) -> Records:
    """All sweeps of a results folder, or the one whose folder it is.

    Attempts whose files in ``trials`` are among ``without`` never happened. Raises ``StoreError``.
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
    """Keys and values beside dense ones by turn, layer, kind of segment and part: the columns of ``FidelityRecord``,
    and ``sweep``, of the trials that are ``ok`` and the samples from index ``from_sample`` on."""
    return load_long(results, from_sample=from_sample, without=without).fidelity


def load_long(results: Path, *, from_sample: int = 0, without: Collection[Path] = ()) -> LongTables:
    """The long tables of all sweeps of a results folder, or of the one whose folder it is; of ``fidelity`` the samples
    from index ``from_sample`` on. ``without`` as in ``load``."""
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
    # Arrow types keep integers whole beside nulls, which numpy's would turn into floats.
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def flat_specs(trials: pd.DataFrame) -> dict[str, FlatSpec]:
    """The specs of trials by id, as one level with dotted keys."""
    pairs = zip(trials["trial_id"], trials["spec_json"], strict=True)
    return {str(trial_id): flatten(json.loads(text)) for trial_id, text in pairs}
