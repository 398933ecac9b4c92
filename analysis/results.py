"""The results in a folder, as tables that are read when they are first used.

Each trial counts once: with its latest ``ok`` attempt, or with its latest attempt if none is ``ok``. All tables but
``trials`` hold the rows of ``ok`` trials. A table has the columns of ``harness.results`` and ``sweep``.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa

from harness.cells import Cell, FlatSpec, flatten, name_cells
from harness.results.arrow_schemas import SCHEMAS, Table
from harness.results.read_back import OF_RESULT, AttemptReader
from harness.results.sweep_folder import names_of, read_records, read_trials, sweep_folders

PROMPTS = ("prompt_text", "tool_text")
"""Texts of a turn that few readers need. In a large sweep they take gigabytes."""

_RENAMED_CRITERION = ('"criterion": "entropy_paper"', '"criterion": "entropy_fitted"')


class Results:
    """The results of all sweeps in a folder, or of one sweep if the folder is that of a sweep."""

    def __init__(
        self,
        folder: str | Path,
        *,
        without: Collection[Path] = (),
        without_attempts: Mapping[Path, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """Find the sweeps, and read nothing yet. Files in ``without`` count as absent, and so do the attempts
        (``<trial_id>-<attempt>``) in ``without_attempts``, by the folder of their sweep.

        Raises ``StoreError`` if there are none; so does the first use of a table with a damaged file.
        """
        self._folders = sweep_folders(Path(folder))
        self._without, self._without_attempts = without, without_attempts

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The attempt that counts of each trial: the columns of ``TrialRow``."""
        return self._table("trials")

    @cached_property
    def turns(self) -> pd.DataFrame:
        """Turns: the columns of ``TurnRecord`` but ``PROMPTS``."""
        return self._table("turns", without=PROMPTS)

    @cached_property
    def turns_with_prompts(self) -> pd.DataFrame:
        """Turns with all columns of ``TurnRecord``."""
        return self._table("turns")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Answered items: the columns of ``SampleRecord``."""
        return self._table("samples")

    @cached_property
    def probes(self) -> pd.DataFrame:
        """Timings of the steps of blending: the columns of ``ProbeRecord``."""
        return self._table("probes")

    @cached_property
    def fidelity(self) -> pd.DataFrame:
        """Distances from dense keys and values by turn, layer, kind of segment and part: those of
        ``FidelityRecord``."""
        return self._table("fidelity")

    @cached_property
    def kv_statistics(self) -> pd.DataFrame:
        """Statistics of keys and values: the columns of ``KVStatistic``."""
        return self._table("kv_statistics")

    @cached_property
    def anchors(self) -> pd.DataFrame:
        """Content of the pools at the end of trials: the columns of ``AnchorRecord``."""
        return self._table("anchors")

    @cached_property
    def cells(self) -> list[Cell]:
        """The cell of each row of ``trials``, named by the fields that differ among all of them."""
        return cells_of(self.trials)

    @property
    def ok_trials(self) -> pd.DataFrame:
        """The rows of ``trials`` that are ``ok``."""
        return self.trials[self.trials["status"] == "ok"]

    @property
    def sweeps(self) -> list[str]:
        """Names of the sweeps."""
        return [str(sweep) for sweep in self.trials["sweep"].unique()]

    def of_sweep(self, sweep: str) -> "Results":
        """Return the results of one sweep, the same object every time; these results if they have no other."""
        if self.sweeps == [sweep]:
            return self
        if sweep not in self._of_sweeps:
            self._of_sweeps[sweep] = _Narrowed(self, lambda _, rows: rows[rows["sweep"] == sweep])
        return self._of_sweeps[sweep]

    @cached_property
    def _of_sweeps(self) -> "dict[str, Results]":
        return {}

    def from_sample(self, first: int) -> "Results":
        """Drop the turns, samples and fidelity before sample index ``first``, which filled the pools.

        Raises ``ValueError`` if no trial has a sample with that index.
        """
        last = 0 if first == 0 or self.turns.empty else int(self.turns["sample_index"].max())
        if not 0 <= first <= last:
            raise ValueError(f"{first}; allowed: 0 to {last}, the index of the last sample")
        later = ("turns", "samples", "fidelity")
        return _Narrowed(self, lambda table, rows: rows[rows["sample_index"] >= first] if table in later else rows)

    def each_trial_once(self) -> "Results":
        """Keep one run of each trial that several sweeps ran: the last ``ok`` one, or the last if none is ``ok``."""
        trials = self.trials.assign(_ok=self.trials["status"] == "ok").sort_values(["_ok", "ended_at"], kind="stable")
        trials = trials.drop_duplicates("trial_id", keep="last").drop(columns="_ok").sort_index()
        kept = trials[["sweep", "trial_id"]]
        return _Narrowed(self, lambda table, rows: trials if table == "trials" else rows.merge(kept))

    @cached_property
    def _counted(self) -> dict[Path, pd.DataFrame]:
        return {folder: _counted(folder, self._attempts_of(folder)) for folder in self._folders}

    def _attempts_of(self, folder: Path) -> pa.Table:
        """Read the rows of ``trials`` of a sweep."""
        rows = read_trials(folder, without=self._without)
        absent = self._without_attempts.get(folder, ())
        return rows.filter(pa.array([name not in absent for name in names_of(rows)], pa.bool_())) if absent else rows

    def _records_of(self, folder: Path, table: Table, attempts: Sequence[str], without: Sequence[str]) -> pa.Table:
        """Read the rows of the named attempts in another table, without the columns of these names."""
        columns = [name for name in SCHEMAS[table].names if name not in without] if without else None
        return read_records(folder, table, attempts, without=self._without, columns=columns)

    def _table(self, table: Table, without: Sequence[str] = ()) -> pd.DataFrame:
        counted = self._counted.items()
        frames = [own if table == "trials" else self._rows(folder, table, own, without) for folder, own in counted]
        return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0].reset_index(drop=True)

    def _rows(self, folder: Path, table: Table, counted: pd.DataFrame, without: Sequence[str]) -> pd.DataFrame:
        ok = counted[counted["status"] == "ok"]
        names = [f"{trial_id}-{attempt}" for trial_id, attempt in zip(ok["trial_id"], ok["attempt"], strict=True)]
        return _frame(self._records_of(folder, table, names, without)).assign(sweep=folder.resolve().name)


class _Narrowed(Results):
    """Some of the rows of other results. A table is read, and narrowed, when it is first used."""

    def __init__(self, whole: Results, narrow: Callable[[Table, pd.DataFrame], pd.DataFrame]) -> None:
        self._whole, self._narrow = whole, narrow

    def _table(self, table: Table, without: Sequence[str] = ()) -> pd.DataFrame:
        whole = table if without or table != "turns" else "turns_with_prompts"
        return self._narrow(table, getattr(self._whole, whole))


class Excerpt(Results):
    """Some attempts of one sweep, with their turns and samples. Few other files are read, however large the sweep
    is."""

    def __init__(self, reader: AttemptReader, attempts: Sequence[str], columns: Mapping[Table, Sequence[str]]) -> None:
        """``attempts`` are named ``<trial_id>-<attempt>``. Of a table named in ``columns``, only these columns are
        kept, since selecting rows takes a time for every column."""
        self._folders, self._without = [reader.folder], ()
        self._reader, self._attempts, self._columns = reader, attempts, columns

    def _table(self, table: Table, without: Sequence[str] = ()) -> pd.DataFrame:
        rows = super()._table(table, without)
        return rows[list(self._columns[table])] if table in self._columns else rows

    @cached_property
    def _counted(self) -> dict[Path, pd.DataFrame]:
        folder = self._reader.folder
        return {folder: _counted(folder, self._reader.records("trials", self._attempts))}

    def _records_of(self, folder: Path, table: Table, attempts: Sequence[str], without: Sequence[str]) -> pa.Table:
        if table not in OF_RESULT:
            return super()._records_of(folder, table, attempts, without)
        rows = self._reader.records(table, attempts)
        return rows.drop_columns([name for name in without if name in rows.schema.names])


def _counted(folder: Path, trials: pa.Table) -> pd.DataFrame:
    attempts = _frame(trials).assign(sweep=folder.resolve().name)
    attempts["spec_json"] = attempts["spec_json"].map(with_current_names)
    attempts["_ok"] = attempts["status"] == "ok"
    counted = attempts.sort_values(["_ok", "attempt"]).groupby("trial_id").tail(1)
    return counted.sort_values(["started_at", "trial_id"]).drop(columns="_ok")


def with_current_names(spec_json: str) -> str:
    """Return a trial's spec with the names of today: earlier results, the shipped ones too, have a former name of the
    criterion."""
    return spec_json.replace(*_RENAMED_CRITERION)


def _frame(table: pa.Table) -> pd.DataFrame:
    # Arrow types keep integers as integers in columns with nulls; numpy types would turn them into floats. One chunk
    # per column, since choosing rows costs time for each.
    frame: pd.DataFrame = table.combine_chunks().to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def plain_values(column: "pd.Series[Any]") -> list[Any]:
    """Return a column as Python values, with None for null: what a record would hold."""
    if isinstance(column.dtype, pd.ArrowDtype):
        values: list[Any] = pa.array(column).to_pylist()
        return values
    return column.astype(object).where(column.notna(), None).tolist()


def flat_specs(trials: pd.DataFrame) -> dict[str, FlatSpec]:
    """Return the specs of trials by id, flattened to dotted keys."""
    pairs = zip(trials["trial_id"], trials["spec_json"], strict=True)
    return {str(trial_id): flatten(json.loads(text)) for trial_id, text in pairs}


def finished_cells(
    results: Results, workload: str, table: Table, name: Callable[[Cell], str] = str
) -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Yield the finished trials of a workload by sweep and cell: the sweep, the cell's name, the trials, and their
    rows in ``table``."""
    for sweep in results.sweeps:
        own = results.of_sweep(sweep)
        named = own.trials.assign(cell=[name(cell) for cell in own.cells])
        finished = named[(named["workload"] == workload) & (named["status"] == "ok")]
        for cell, trials in finished.groupby("cell", sort=False):
            rows = getattr(own, table)
            yield sweep, str(cell), trials, rows[rows["trial_id"].isin(trials["trial_id"])]


def cells_of(trials: pd.DataFrame) -> list[Cell]:
    """Return the cell of each trial, named by the fields that differ among these trials."""
    return name_cells([flatten(json.loads(text)) for text in trials["spec_json"]])
