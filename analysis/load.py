"""Read results: every trial once, with the turns and samples of the attempt that counts."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from harness.store import RecordTable, read_records, read_trials, sweep_folders


@dataclass(frozen=True, slots=True)
class Records:
    """Four tables with the columns of ``harness.records``, and ``sweep`` in each."""

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


def load(results: Path) -> Records:
    """All sweeps of a results folder, or the one whose folder it is. Raises ``harness.store.StoreError``."""
    trials, turns, samples, probes = [], [], [], []
    for folder in sweep_folders(results):
        counted = _counted(folder)
        trials.append(counted)
        turns.append(_rows(folder, "turns", counted))
        samples.append(_rows(folder, "samples", counted))
        probes.append(_rows(folder, "probes", counted))
    return Records(*(pd.concat(frames, ignore_index=True) for frames in (trials, turns, samples, probes)))


def load_fidelity(results: Path) -> pd.DataFrame:
    """Keys and values beside dense ones by turn, layer, kind of segment and part: the columns of ``FidelityRecord``,
    and ``sweep``, of the trials that are ``ok``. Apart from the others because it is long."""
    return _long(results, "fidelity")


def load_kv_statistics(results: Path) -> pd.DataFrame:
    """What the probes of keys and values came to: the columns of ``KVStatistic``, and ``sweep``, of the trials that are
    ``ok``. Apart from the others for the same reason."""
    return _long(results, "kv_statistics")


def load_anchors(results: Path) -> pd.DataFrame:
    """The anchors that pools held in the end: the columns of ``AnchorRecord``, and ``sweep``, of the trials that are
    ``ok``."""
    return _long(results, "anchors")


def _long(results: Path, table: RecordTable) -> pd.DataFrame:
    folders = sweep_folders(results)
    return pd.concat([_rows(folder, table, _counted(folder)) for folder in folders], ignore_index=True)


def _counted(folder: Path) -> pd.DataFrame:
    attempts = _frame(read_trials(folder)).assign(sweep=folder.resolve().name)
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
