"""How fast models are, from earlier trials in a results folder: what ``sweeps.cost`` makes times of.

A dense prefill of n tokens takes ``n (a + b n)`` seconds, fitted to the dense turns, and a step of decoding always the
same. A method's prefill takes a share of the dense one. Turns that were taken together share their times.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.damaged import find_damaged
from harness.environment import gpu_names
from harness.store import StoreError, read_records, read_trials, sweep_folders
from harness.workloads import TIMINGS

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
_TELLING = 4
"""Times as long as the shortest prompt: from there on, lengths tell what grows with their square."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRates:
    """How fast one model is under some conditions."""

    device: str
    """``cpu``, or the name of the GPU."""
    threads: int | None = None
    """Of one operation, on a CPU; None if not known, or on a GPU."""
    batch_size: int = 1
    """Items that are taken together."""
    n_trials: int = 0
    """That the rates come from; 0 if they were measured for themselves."""
    source: str
    """Where the rates come from, for people: ``12 earlier trials``."""
    token_s: float
    """Of a dense prefill, by token: ``a`` of the module's formula."""
    token_pair_s: float
    """The same by token and token that it attends to: ``b``."""
    longest: int = 0
    """Tokens of the longest prompt that was timed."""
    step_s: float | None
    """Of decoding one token; None if no answer was decoded."""
    turn_s: float = 0.0
    """What a turn takes besides: tools, grades, tokenizing."""
    shares: Mapping[tuple[bool, str], float] = field(default_factory=dict)
    """Of the dense prefill, by whether it is a timing and by method."""
    answer_tokens: Mapping[str, float] = field(default_factory=dict)
    """Mean length of an answer, by workload."""

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def conditions(self) -> str:
        """``cpu, 1 thread``."""
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return f"{self.device}{threads}{f', batches of {self.batch_size}' if self.batch_size > 1 else ''}"

    def prefill_s(self, tokens: float, *, from_above: bool = False) -> float:
        """Seconds of the dense prefill of a prompt.

        ``from_above``: twice as many where the prompt is more than twice as long as any that was timed.
        """
        seconds = tokens * (self.token_s + self.token_pair_s * tokens)
        return 2 * seconds if from_above and tokens > 2 * self.longest else seconds


@dataclass(frozen=True, slots=True)
class Rates:
    """All that is known. Empty where nothing is."""

    models: Mapping[str, tuple[ModelRates, ...]] = field(default_factory=dict)
    """By name."""
    unit_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Seconds by unit of work (see ``units_of``) of trials without turns, by model and workload."""

    def of(self, model: str, *, batch_size: int, threads: int, decodes: bool) -> ModelRates | None:
        """The rates, of decoding too if it ``decodes``, under the conditions nearest to those of a trial here.

        The device counts most, then the threads (on a CPU), then the batches: smaller ones are nearer, as they are
        slower. None if there are none.
        """
        here = this_device()
        known = [one for one in self.models.get(model, ()) if one.step_s is not None or not decodes]

        def nearness(rates: ModelRates) -> tuple[object, ...]:
            size = rates.batch_size
            near_size = (True, size) if size <= batch_size else (False, -size)
            return rates.device == here, rates.threads in (None, threads), *near_size, rates.n_trials

        return max(known, key=nearness, default=None)


def this_device() -> str:
    """The kind of device that a model is put on here."""
    names = gpu_names()
    return names[0] if names else "cpu"


def units_of(workload: Mapping[str, Any]) -> float:
    """By what the time of a trial without turns grows: for ``blend`` the tokens read, for a probe its questions."""
    if workload["name"] != "blend":
        return float(workload.get("limit") or 1)
    return float((workload["repeats"] + 1) * workload["anchors"] * workload["tokens"])


def read_rates(results: Path) -> Rates:
    """By the finished trials of all sweeps in a results folder; empty if there is none."""
    sums: defaultdict[tuple[str, str, int | None, int], _Sums] = defaultdict(_Sums)
    units: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row, turns in _finished(results):
        spec = json.loads(row["spec_json"])
        if turns:
            device = _kind(row["device"])
            threads = json.loads(row["env_json"]).get("threads") if device == "cpu" else None
            sums[row["model"], device, threads, spec.get("batch_size", 1)].add(row, spec, turns)
        else:
            of_all = units[row["model"], row["workload"]]
            of_all[0] += _wall_s(row)
            of_all[1] += units_of(spec["workload"])
    models: defaultdict[str, tuple[ModelRates, ...]] = defaultdict(tuple)
    for (model, device, threads, batch_size), found in sums.items():
        models[model] += found.rates(device, threads, batch_size)
    return Rates(
        {model: _completed(found) for model, found in models.items()},
        {key: seconds / count for key, (seconds, count) in units.items()},
    )


def _completed(rates: tuple[ModelRates, ...]) -> tuple[ModelRates, ...]:
    """With the shares and the lengths of answers of the others where they have none of their own: both depend little on
    where a trial runs."""
    shares = {key: share for one in rates for key, share in one.shares.items()}
    answers = {key: tokens for one in rates for key, tokens in one.answer_tokens.items()}
    return tuple(
        replace(one, shares={**shares, **one.shares}, answer_tokens={**answers, **one.answer_tokens}) for one in rates
    )


def _finished(results: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each attempt that ended well, with its turns; those of timings include other arms than the method's."""
    try:
        folders = sweep_folders(results)
    except StoreError:
        return
    seen: set[str] = set()
    for folder in folders:
        damaged = {file.path for file in find_damaged(folder)}
        for row in read_trials(folder, without=damaged).select(_TRIAL_COLUMNS).to_pylist():
            name = f"{row['trial_id']}-{row['attempt']}"
            # A sweep that took a trial from another has a copy of it.
            if row["status"] != "ok" or name in seen or folder / "turns" / f"{name}.parquet" in damaged:
                continue
            seen.add(name)
            yield row, read_records(folder, "turns", [name]).select(_TURN_COLUMNS).to_pylist()


def _kind(device: str | None) -> str:
    return re.sub(r"cuda:\d+ ", "", device or "cpu")


def _wall_s(row: Mapping[str, Any]) -> float:
    return float((row["ended_at"] - row["started_at"]).total_seconds())


class _Sums:
    """Over the trials of one model under the same conditions."""

    def __init__(self) -> None:
        self.trials = 0
        self._dense: list[tuple[int, float]] = []
        """Prompt tokens and seconds of turns that were prefilled and nothing else."""
        self._others_dense: list[tuple[int, float]] = []
        """The same of turns in which a method could reuse nothing: there is more to them than the prefill."""
        self._by_method: defaultdict[tuple[bool, str], list[tuple[int, float]]] = defaultdict(list)
        self._steps = [0.0, 0.0]
        self._answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._besides = [0.0, 0.0]

    def add(self, row: Mapping[str, Any], spec: Mapping[str, Any], turns: Iterable[Mapping[str, Any]]) -> None:
        """One trial."""
        self.trials += 1
        timing = row["workload"] in TIMINGS
        in_turns = count = 0.0
        for turn in turns:
            ttft_s, decode_s = turn["ttft_s"] / turn["batch_size"], turn["decode_s"] / turn["batch_size"]
            point = (turn["prompt_tokens"], ttft_s)
            if turn["arm"] in ("dense", "bare"):
                self._dense.append(point)
            elif turn["mode"] == "dense":
                self._others_dense.append(point)
            if turn["arm"] == row["method"]:
                self._by_method[timing, turn["arm"]].append(point)
            if turn["stop_reason"] != "given":
                self._steps[0] += decode_s
                self._steps[1] += max(0, turn["output_tokens"] - 1)
                if not timing:
                    self._answers[row["workload"]].update(tokens=turn["output_tokens"], turns=1)
            in_turns += ttft_s + decode_s + (turn["phase_store_s"] or 0.0) / turn["batch_size"]
            count += 1
        whole = not row["resumed_from"] and spec.get("shards", 1) == 1
        if not timing and whole and not spec.get("fidelity"):
            self._besides[0] += max(0.0, _wall_s(row) - in_turns)
            self._besides[1] += count

    def rates(self, device: str, threads: int | None, batch_size: int) -> tuple[ModelRates, ...]:
        """One, or none if no turn tells how long a dense prefill takes."""
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
            turn_s=besides_s / turns if turns else 0.0,
            answer_tokens={name: found["tokens"] / found["turns"] for name, found in self._answers.items()},
        )
        shares = {
            key: sum(seconds for _, seconds in own) / sum(rates.prefill_s(tokens) for tokens, _ in own)
            for key, own in self._by_method.items()
        }
        return (replace(rates, shares=shares),)


def fit(points: Iterable[tuple[int, float]]) -> tuple[float, float]:
    """a and b of ``seconds = tokens (a + b tokens)``, neither negative, by least squares of the seconds per token.

    ``points``: tokens and seconds, at least one. Prompts that are much alike do not tell a from b: then b is 0.
    """
    pairs = [(float(tokens), seconds / tokens) for tokens, seconds in points if tokens]
    mean_n = sum(n for n, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    spread = sum((n - mean_n) ** 2 for n, _ in pairs)
    alike = max(pairs)[0] < _TELLING * min(pairs)[0]
    b = 0.0 if alike else max(0.0, sum((n - mean_n) * (y - mean_y) for n, y in pairs) / spread)
    a = mean_y - b * mean_n
    if a < 0:
        a, b = 0.0, sum(n * y for n, y in pairs) / sum(n * n for n, _ in pairs)
    return a, b
