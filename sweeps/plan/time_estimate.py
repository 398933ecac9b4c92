"""The total cost of a plan: time on its replicas, GPU hours, and what dominates them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.spec import TrialSpec
from sweeps.durations import duration
from sweeps.plan.planning import Plan
from sweeps.plan.rates import ModelRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The cost of the pending trials whose time is known. It leaves out starting replicas and loading models."""

    low_s: float
    """Wall time with whole trials spread over all replicas as evenly as possible."""
    high_s: float
    gpu_hours_low: float | None
    """None if no GPU is used."""
    gpu_hours_high: float | None
    n_known: int
    """Pending trials that the estimate covers."""
    n_unknown: int
    """Pending trials without an estimate."""
    sources: tuple[str, ...]
    """Where the rates come from, such as ``12 earlier trials on cpu, 1 thread``."""
    by_method: dict[str, float]
    """Each method's share of the total time, largest first."""
    by_phase: dict[str, float]
    """The shares of ``prefill``, ``decoding`` and ``other``."""
    longest: str
    """Id of the longest trial."""
    longest_s: float


def estimate(todo: Plan, trials: tuple[TrialSpec, ...] | None = None) -> Estimate | None:
    """Estimate the cost of all pending trials, or of ``trials``. Return None if no trial's time is known."""
    trials = todo.pending if trials is None else trials
    times = {trial: time for trial in trials if (time := todo.costs[trial.trial_id].time) is not None}
    if not times:
        return None
    rates = {trial: todo.costs[trial.trial_id].rates for trial in times}
    on_gpu = {trial: found is not None and found.on_gpu for trial, found in rates.items()}
    gpus = 1.0 if todo.sweep.gpus_per_replica is None else todo.sweep.gpus_per_replica
    hours = [
        sum(seconds * gpus / 3600 for trial, seconds in one.items() if on_gpu[trial])
        for one in ({t: time.low_s for t, time in times.items()}, {t: time.high_s for t, time in times.items()})
    ]
    has_gpu = any(on_gpu.values()) and gpus > 0
    methods: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    for trial, time in times.items():
        methods[trial.method] += time.high_s  # type: ignore[assignment]  # counters of seconds
        phases["prefill"] += time.prefill_s  # type: ignore[assignment]
        phases["decoding"] += time.decode_s  # type: ignore[assignment]
        phases["other"] += time.high_s - time.prefill_s - time.decode_s  # type: ignore[assignment]
    longest = max(times, key=lambda trial: times[trial].high_s)
    return Estimate(
        low_s=_wall_s(todo, {trial: time.low_s for trial, time in times.items()}, on_gpu),
        high_s=_wall_s(todo, {trial: time.high_s for trial, time in times.items()}, on_gpu),
        gpu_hours_low=hours[0] if has_gpu else None,
        gpu_hours_high=hours[1] if has_gpu else None,
        n_known=len(times),
        n_unknown=len(trials) - len(times),
        sources=_sources(rates.values()),
        by_method=_shares(methods),
        by_phase=_shares(phases),
        longest=longest.trial_id,
        longest_s=times[longest].high_s,
    )


def spell_time(low_s: float, high_s: float) -> str:
    """Return ``about 12 min``, or ``3 min to 2 h 05 min`` if the two are far apart."""
    low, high = (duration(60 * round(s / 60) if s >= 600 else s).removesuffix(" 00 s") for s in (low_s, high_s))
    return f"about {high}" if high_s <= 1.2 * low_s or low == high else f"{low} to {high}"


def spell_hours(low: float | None, high: float | None) -> str:
    """Return the GPU hours as text, or ``-`` if no GPU is used."""
    if low is None or high is None:
        return "-"
    texts = [f"{hours:.1f}" if hours < 10 else f"{hours:,.0f}" for hours in (low, high)]
    return texts[1] if high <= 1.2 * low or texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _wall_s(todo: Plan, seconds: dict[TrialSpec, float], on_gpu: dict[TrialSpec, bool]) -> float:
    alone = {trial for trial in seconds if todo.sweep.is_exclusive(trial, on_gpu=on_gpu[trial])}
    shared = {trial: s for trial, s in seconds.items() if trial not in alone}
    jobs = sum(trial.shards for trial in shared)
    longest = max((s / trial.shards for trial, s in shared.items()), default=0.0)
    spread = sum(shared.values()) / min(todo.sweep.replicas, jobs) if shared else 0.0
    return max(spread, longest) + sum(seconds[trial] for trial in alone)


def _sources(rates: Iterable[ModelRates | None]) -> tuple[str, ...]:
    texts = [f"{one.source} on {one.conditions}" if one else "trials of the same workload" for one in rates]
    return tuple(dict.fromkeys(texts))


def _shares(seconds: Counter[str]) -> dict[str, float]:
    total = sum(seconds.values())
    return {name: one / total for name, one in seconds.most_common()} if total else {}
