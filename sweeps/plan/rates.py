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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.agents import label_of
from harness.environment import gpu_names
from harness.results.damaged_files import find_damaged
from harness.results.parquet_files import StoreError
from harness.results.sweep_folder import read_records, read_trials, sweep_folders
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


def conditions_of(device: str, threads: int | None, dtype: str, batch_size: int) -> str:
    """Return the conditions on which rates depend, most important first, such as ``cpu, 1 thread, batches of 8``."""
    on_cpu = counted(threads, "thread") if device == "cpu" and threads else ""
    parts = (device, on_cpu, dtype.replace("auto", ""), f"batches of {batch_size}" if batch_size > 1 else "")
    return ", ".join(filter(None, parts))


def conditions_here(trial: TrialSpec, threads: int) -> str:
    """Return the conditions of a trial on this machine. ``threads`` is the number per operation on a CPU."""
    return conditions_of(next(iter(gpu_names()), "cpu"), threads, trial.dtype, trial.batch_size)


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
    return rates_of(_finished(folders))


def _finished(folders: Iterable[Path]) -> Iterator[tuple[Row, list[Row]]]:
    """Yield each finished trial with its turns."""
    seen: set[str] = set()
    for folder in folders:
        damaged = {file.path for file in find_damaged(folder)}
        for row in read_trials(folder, without=damaged).to_pylist():
            name = f"{row['trial_id']}-{row['attempt']}"
            whole = row["status"] == "ok" and folder / "turns" / f"{name}.parquet" not in damaged
            if whole and row["trial_id"] not in seen:  # a sweep has copies of the trials that it took from another
                seen.add(row["trial_id"])
                yield row, read_records(folder, "turns", [name]).to_pylist()


def rates_of(trials: Iterable[tuple[Row, list[Row]]]) -> Rates:
    """Compute the rates from trials with their turns: rows with the columns of ``TrialRow`` and ``TurnRecord``."""
    sums: defaultdict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row, turns in trials:
        spec = json.loads(row["spec_json"])
        try:
            workload = read_workload(spec["workload"])
        except UnknownWorkloadError:
            continue  # from another version, or a plug-in that is not installed
        device = re.sub(r"cuda:\d+ ", "", row["device"] or "cpu")
        threads = json.loads(row["env_json"]).get("threads")
        conditions = conditions_of(device, threads, spec.get("dtype", "auto"), spec.get("batch_size", 1))
        team = spec.get("team")
        label = label_of(team.get("name"), team.get("digest")) if team else workload.team
        for activity, amount, units in _activities(row, workload, label, turns):
            total = sums[row["model"], conditions, activity]
            total[0] += amount
            total[1] += units
    rates: Rates = {}
    for (model, conditions, activity), (amount, units) in sums.items():
        if units:
            of_model = rates.setdefault(model, {}).setdefault(conditions, {})
            of_model[activity] = amount if activity == "trials" else amount / units
    return rates


def _activities(row: Row, workload: Workload, team: str | None, turns: list[Row]) -> Iterator[tuple[str, float, float]]:
    """Yield the amount and the units of each activity of a trial."""
    yield "trials", 1, 1
    if not turns:
        yield f"all of {workload.name}", (row["ended_at"] - row["started_at"]).total_seconds(), workload.units
    for turn in turns:
        batch_size = turn["batch_size"] or 1  # the first versions had neither this nor arms
        arm = prefill_by(turn["arm"] or row["method"], workload)
        yield arm, turn["ttft_s"] / batch_size, turn["prompt_tokens"]
        if turn["stop_reason"] != "given":
            yield "decoding", turn["decode_s"] / batch_size, max(0, turn["output_tokens"] - 1)
            if team:  # a timing's answers have the length that it asks for
                yield f"answers of {team}", turn["output_tokens"], 1
