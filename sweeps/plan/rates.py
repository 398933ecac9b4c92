"""Rates of the work of trials, measured in the finished trials of a results folder: an amount per unit of an activity.

    dense, kvcomm, ...      seconds of a prefill by that arm per token of the prompt, whether reused or not
    timing dense, ...       the same in a timing, whose prompts are long and whose pools are full
    decoding                seconds per token after an answer's first one
    answers of recall, ...  tokens per answer
    all of blend, ...       seconds of a trial without turns per unit of its work (``Workload.units``)
    trials                  number of trials behind these rates; none if they were measured just now

The turns of a batch share their time.
"""

import json
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from harness.agents import built_in_label, label_of
from harness.environment import gpu_names
from harness.results.arrow_schemas import SCHEMAS
from harness.results.damaged_files import find_damaged
from harness.results.parquet_files import StoreError
from harness.results.sweep_folder import read_attempts, read_records, read_trials, sweep_folders
from harness.spec import TrialSpec
from harness.workloads import UnknownWorkloadError, Workload, read_workload
from sweeps.wording import counted

Rates = dict[str, dict[str, dict[str, float]]]
"""Rates by model, conditions and activity."""

Row = Mapping[str, Any]


class Rate(NamedTuple):
    """A rate, and the conditions under which it was measured."""

    amount: float
    conditions: str


def conditions_of(device: str, threads: int | None, dtype: str, batch_size: int, weights: str = "model") -> str:
    """Return the conditions on which rates depend, most important first, such as ``cpu, 1 thread, batches of 8``."""
    on_cpu = counted(threads, "thread") if device == "cpu" and threads else ""
    numbers = dtype.replace("auto", "") if weights == "model" else f"{weights} weights"
    parts = (device, on_cpu, numbers, f"batches of {batch_size}" if batch_size > 1 else "")
    return ", ".join(filter(None, parts))


def conditions_here(trial: TrialSpec, threads: int) -> str:
    """Return the conditions of a trial on this machine. ``threads`` is the number per operation on a CPU."""
    return conditions_of(next(iter(gpu_names()), "cpu"), threads, trial.dtype, trial.batch_size, trial.weights)


def rates_near(rates: Rates, model: str, here: str) -> dict[str, Rate]:
    """Return the rate of each activity of a model under the known conditions most like ``here``."""
    known = rates.get(model, {})

    def likeness(conditions: str) -> tuple[bool, list[bool]]:
        pairs = zip(conditions.split(", "), here.split(", "), strict=False)
        return conditions == here, [ours == theirs for ours, theirs in pairs]

    return {name: Rate(known[one][name], one) for one in sorted(known, key=likeness) for name in known[one]}


def prefill_by(arm: str, workload: Workload) -> str:
    """Return the activity of an arm's prefills."""
    return f"timing {arm}" if workload.timing else arm


def read_rates(results: Path) -> Rates:
    """Compute the rates from the finished trials of all sweeps in a results folder."""
    try:
        folders = sweep_folders(results)
    except StoreError:
        return {}
    seen: set[str] = set()
    sums: Sums = defaultdict(lambda: [0.0, 0.0])
    for folder in folders:
        rows, turns = _finished(folder, seen)
        seen.update(row["trial_id"] for row in rows)
        _add(sums, rows, turns)
    return _rates(sums)


Sums = defaultdict[tuple[str, str, str], list[float]]
"""Amount and units by model, conditions and activity."""

_OF_TRIALS = (
    "trial_id",
    "attempt",
    "status",
    "model",
    "method",
    "spec_json",
    "env_json",
    "device",
    "started_at",
    "ended_at",
)
_OF_TURNS = (
    *("trial_id", "arm", "batch_size", "ttft_s", "ttft_share_s", "prompt_tokens"),
    *("stop_reason", "decode_s", "decode_share_s", "output_tokens"),
)


def _finished(folder: Path, seen: Container[str]) -> tuple[list[Row], pa.Table]:
    """Return the finished trials of a sweep, each once, and their turns. Leave out those that were seen elsewhere."""
    damaged = {file.path for file in find_damaged(folder)}
    known: dict[str, Row] = {}
    rows = read_trials(folder, without=damaged, columns=_OF_TRIALS).to_pylist()
    attempts = read_attempts(folder, without=damaged)
    for row in rows:
        # A sweep has copies of the trials that it took from another.
        if row["attempt"] == attempts[row["trial_id"]].finished and row["trial_id"] not in seen:
            known[row["trial_id"]] = row
    names = [f"{row['trial_id']}-{row['attempt']}" for row in known.values()]
    return list(known.values()), read_records(folder, "turns", names, without=damaged, columns=_OF_TURNS)


def rates_of(trials: Iterable[tuple[Row, list[Row]]]) -> Rates:
    """Compute the rates from trials with their turns: rows with the columns of ``TrialRow`` and ``TurnRecord``."""
    rows, turns = [], []
    for row, own in trials:
        rows.append(row)
        turns += own
    schema = pa.schema([SCHEMAS["turns"].field(name).with_nullable(True) for name in _OF_TURNS])
    sums: Sums = defaultdict(lambda: [0.0, 0.0])
    _add(sums, rows, pa.Table.from_pylist([{name: turn.get(name) for name in _OF_TURNS} for turn in turns], schema))
    return _rates(sums)


def _rates(sums: Sums) -> Rates:
    rates: Rates = {}
    for (model, conditions, activity), (amount, units) in sums.items():
        if units:
            of_model = rates.setdefault(model, {}).setdefault(conditions, {})
            of_model[activity] = amount if activity == "trials" else amount / units
    return rates


class _Kind(NamedTuple):
    """What trials share whose work is counted together."""

    model: str
    conditions: str
    method: str
    workload: Workload
    team: str | None


def _add(sums: Sums, rows: Iterable[Row], turns: pa.Table) -> None:
    """Add the work of trials with these turns."""
    kinds = {row["trial_id"]: kind for row in rows if (kind := _kind_of(row)) is not None}
    distinct = list(dict.fromkeys(kinds.values()))
    number = {kind: index for index, kind in enumerate(distinct)}
    ids = pa.array(list(kinds), pa.string())
    of_trial = pa.array([number[kind] for kind in kinds.values()], pa.int64())
    place = pc.index_in(turns["trial_id"], ids)
    turns = turns.append_column("kind", pc.take(of_trial, place)).filter(pc.is_valid(place))
    with_turns = set(pc.unique(turns["trial_id"]).to_pylist())
    for row in rows:
        if (kind := kinds.get(row["trial_id"])) is not None:
            _count(sums, kind, "trials", 1, 1)
            if row["trial_id"] not in with_turns:
                seconds = (row["ended_at"] - row["started_at"]).total_seconds()
                _count(sums, kind, f"all of {kind.workload.name}", seconds, kind.workload.units)
    for one in _turn_sums(turns):
        kind = distinct[one["kind"]]
        _count(sums, kind, prefill_by(one["arm"] or kind.method, kind.workload), one["ttft_sum"], one["prompt_sum"])
        if one["stop_reason"] != "given":
            _count(sums, kind, "decoding", one["decode_sum"], one["later_sum"])
            if kind.team:  # a timing's answers have the length that it asks for
                _count(sums, kind, f"answers of {kind.team}", one["output_sum"], one["turns"])


def _turn_sums(turns: pa.Table) -> list[Row]:
    """Return sums over the turns of a kind, arm and stop reason; the turns of a batch share their time."""
    batch = pc.fill_null(turns["batch_size"], 1)  # the first versions had neither this nor arms
    sums = {
        "ttft_sum": pc.coalesce(turns["ttft_share_s"], pc.divide(turns["ttft_s"], batch)),
        "prompt_sum": turns["prompt_tokens"],
        "decode_sum": pc.coalesce(turns["decode_share_s"], pc.divide(turns["decode_s"], batch)),
        "later_sum": pc.max_element_wise(pc.subtract(turns["output_tokens"], 1), 0),
        "output_sum": turns["output_tokens"],
    }
    keys = ["kind", "arm", "stop_reason"]
    table = pa.table({**{key: turns[key] for key in keys}, **sums})
    found = table.group_by(keys, use_threads=False).aggregate([*((name, "sum") for name in sums), ([], "count_all")])
    rows: list[Row] = found.rename_columns([*keys, *sums, "turns"]).to_pylist()
    return rows


def _count(sums: Sums, kind: _Kind, activity: str, amount: float, units: float) -> None:
    total = sums[kind.model, kind.conditions, activity]
    total[0] += amount
    total[1] += units


def _kind_of(row: Row) -> _Kind | None:
    """Return what a trial's work counts to; None if its workload is from another version, or a plug-in that is not
    installed."""
    spec = json.loads(row["spec_json"])
    try:
        workload = _workload(json.dumps(spec["workload"]))
    except UnknownWorkloadError:
        return None
    device = re.sub(r"cuda:\d+ ", "", row["device"] or "cpu")
    threads = json.loads(row["env_json"]).get("threads")
    dtype, weights = spec.get("dtype", "auto"), spec.get("weights", "model")
    conditions = conditions_of(device, threads, dtype, spec.get("batch_size", 1), weights)
    team = spec.get("team")
    own = built_in_label(workload.team, spec.get("prompts"))
    label = label_of(team.get("name"), team.get("digest")) if team else own
    return _Kind(row["model"], conditions, row["method"], workload, label)


@cache
def _workload(fields: str) -> Workload:
    return read_workload(json.loads(fields))
