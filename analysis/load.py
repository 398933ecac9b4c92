"""Read results: every trial once, with the turns and samples of the attempt that counts."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from harness.store import read_records, read_trials, sweep_folders


@dataclass(frozen=True, slots=True)
class Records:
    """Three tables with the columns of ``harness.records``, and ``sweep`` in each."""

    trials: pd.DataFrame
    """One row per trial: its latest ``ok`` attempt, or its latest attempt if none is."""
    turns: pd.DataFrame
    """Of the trials that are ``ok``."""
    samples: pd.DataFrame
    """Of the trials that are ``ok``."""


def load(results: Path) -> Records:
    """All sweeps of a results folder, or the one whose folder it is. Raises ``harness.store.StoreError``."""
    trials, turns, samples = [], [], []
    for folder in sweep_folders(results):
        attempts = _frame(read_trials(folder)).assign(sweep=folder.resolve().name)
        attempts["_ok"] = attempts["status"] == "ok"
        counted = attempts.sort_values(["_ok", "attempt"]).groupby("trial_id").tail(1)
        counted = counted.sort_values(["started_at", "trial_id"]).drop(columns="_ok")
        ok = counted[counted["status"] == "ok"]
        names = [f"{trial_id}-{attempt}" for trial_id, attempt in zip(ok["trial_id"], ok["attempt"], strict=True)]
        trials.append(counted)
        turns.append(_frame(read_records(folder, "turns", names)).assign(sweep=folder.resolve().name))
        samples.append(_frame(read_records(folder, "samples", names)).assign(sweep=folder.resolve().name))
    return Records(*(pd.concat(frames, ignore_index=True) for frames in (trials, turns, samples)))


def _frame(table: pa.Table) -> pd.DataFrame:
    # Arrow types keep integers whole beside nulls, which numpy's would turn into floats.
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
