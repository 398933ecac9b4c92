"""Rates from the trials in a results folder. The turns of a batch share their time."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.results.damaged_files import find_damaged
from harness.results.parquet_files import StoreError, read_records, read_trials, sweep_folders
from harness.workloads import UnknownWorkloadError, Workload, read_workload
from sweeps.plan.rates import ModelRates, Rates, fit

_TRIAL_COLUMNS = [
    "trial_id",
    "attempt",
    "status",
    "model",
    "method",
    "workload",
    "device",
    "spec_json",
    "env_json",
    "resumed_from",
    "started_at",
    "ended_at",
]
_TURN_COLUMNS = [
    "arm",
    "mode",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "stop_reason",
    "ttft_s",
    "decode_s",
    "phase_store_s",
]


def read_rates(results: Path) -> Rates:
    """Compute the rates from the finished trials of all sweeps in a results folder; empty if there are none."""
    sums: defaultdict[tuple[str, str, int | None, int], _Sums] = defaultdict(_Sums)
    units: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row, turns in _finished(results):
        spec = json.loads(row["spec_json"])
        try:
            workload = read_workload(spec["workload"])
        except UnknownWorkloadError:
            continue  # from another version, or a plug-in that is not installed
        if turns:
            device = _kind(row["device"])
            threads = json.loads(row["env_json"]).get("threads") if device == "cpu" else None
            sums[row["model"], device, threads, spec.get("batch_size", 1)].add(row, spec, workload, turns)
        else:
            of_all = units[row["model"], row["workload"]]
            of_all[0] += _wall_s(row)
            of_all[1] += workload.units
    models: defaultdict[str, tuple[ModelRates, ...]] = defaultdict(tuple)
    for (model, device, threads, batch_size), found in sums.items():
        models[model] += found.rates(device, threads, batch_size)
    return Rates(
        {model: _completed(found) for model, found in models.items()},
        {key: seconds / count for key, (seconds, count) in units.items()},
    )


def _completed(rates: tuple[ModelRates, ...]) -> tuple[ModelRates, ...]:
    """Fill in missing shares and answer lengths from the other rates: both depend little on where a trial runs."""
    shares = {key: share for one in rates for key, share in one.shares.items()}
    answers = {key: tokens for one in rates for key, tokens in one.answer_tokens.items()}
    return tuple(
        replace(one, shares={**shares, **one.shares}, answer_tokens={**answers, **one.answer_tokens}) for one in rates
    )


def _finished(results: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each successful attempt with its turns. The turns of a timing include arms other than the method's."""
    try:
        folders = sweep_folders(results)
    except StoreError:
        return
    seen: set[str] = set()
    for folder in folders:
        damaged = {file.path for file in find_damaged(folder)}
        for row in read_trials(folder, without=damaged).select(_TRIAL_COLUMNS).to_pylist():
            name = f"{row['trial_id']}-{row['attempt']}"
            # A sweep holds copies of the trials it took from another.
            if row["status"] != "ok" or name in seen or folder / "turns" / f"{name}.parquet" in damaged:
                continue
            seen.add(name)
            yield row, read_records(folder, "turns", [name]).select(_TURN_COLUMNS).to_pylist()


def _kind(device: str | None) -> str:
    return re.sub(r"cuda:\d+ ", "", device or "cpu")


def _wall_s(row: Mapping[str, Any]) -> float:
    return float((row["ended_at"] - row["started_at"]).total_seconds())


class _Sums:
    """Sums over the trials of one model under the same conditions."""

    def __init__(self) -> None:
        self.trials = 0
        self._dense: list[tuple[int, float]] = []
        """Prompt tokens and seconds of turns in the arms that only prefill."""
        self._others_dense: list[tuple[int, float]] = []
        """The same for turns in which another method reused nothing; these do more than prefill."""
        self._by_method: defaultdict[tuple[bool, str], list[tuple[int, float]]] = defaultdict(list)
        self._steps = [0.0, 0.0]
        self._answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._besides = [0.0, 0.0]

    def add(
        self, row: Mapping[str, Any], spec: Mapping[str, Any], workload: Workload, turns: Iterable[Mapping[str, Any]]
    ) -> None:
        """Add one trial."""
        self.trials += 1
        timing = workload.timing
        in_turns = count = 0.0
        for turn in turns:
            batch_size, arm = turn["batch_size"] or 1, turn["arm"] or row["method"]  # the first versions had neither
            ttft_s, decode_s = turn["ttft_s"] / batch_size, turn["decode_s"] / batch_size
            point = (turn["prompt_tokens"], ttft_s)
            if arm in ("dense", "bare"):
                self._dense.append(point)
            elif turn["mode"] == "dense":
                self._others_dense.append(point)
            if arm in (row["method"], "prefix"):  # a timing also holds the latter
                self._by_method[timing, arm].append(point)
            if turn["stop_reason"] != "given":
                self._steps[0] += decode_s
                self._steps[1] += max(0, turn["output_tokens"] - 1)
                if not timing:
                    self._answers[row["workload"]].update(tokens=turn["output_tokens"], turns=1)
            in_turns += ttft_s + decode_s + (turn["phase_store_s"] or 0.0) / batch_size
            count += 1
        whole = not row["resumed_from"] and spec.get("shards", 1) == 1
        if not timing and whole and not spec.get("fidelity"):
            self._besides[0] += max(0.0, _wall_s(row) - in_turns)
            self._besides[1] += count

    def rates(self, device: str, threads: int | None, batch_size: int) -> tuple[ModelRates, ...]:
        """Return one entry, or none if no turn shows how long a dense prefill takes."""
        points = self._dense or self._others_dense
        if not points:
            return ()
        token_s, token_pair_s = fit(points)
        steps_s, steps = self._steps
        besides_s, turns = self._besides
        rates = ModelRates(
            device=device,
            threads=threads,
            batch_size=batch_size,
            n_trials=self.trials,
            source=f"{self.trials} earlier trial{'s' if self.trials > 1 else ''}",
            token_s=token_s,
            token_pair_s=token_pair_s,
            longest=max(tokens for tokens, _ in points),
            step_s=steps_s / steps if steps else None,
            turn_s=besides_s / turns if turns else None,
            answer_tokens={name: found["tokens"] / found["turns"] for name, found in self._answers.items()},
        )
        shares = {
            key: sum(seconds for _, seconds in own) / sum(rates.prefill_s(tokens) for tokens, _ in own)
            for key, own in self._by_method.items()
        }
        return (replace(rates, shares=shares),)
