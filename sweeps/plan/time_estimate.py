"""The total cost of a plan: time on its replicas, GPU hours, and what dominates them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.spec import TrialSpec
from sweeps.plan.planning import Plan
from sweeps.wording import duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The cost of the pending trials whose time is known. It leaves out starting replicas and loading models."""

    low_s: float
    """Wall time with whole trials spread over all replicas as evenly as possible."""
    high_s: float
    gpu_hours_low: float
    """0 on a CPU."""
    gpu_hours_high: float
    n_known: int
    """Pending trials that the estimate covers."""
    n_unknown: int
    """Pending trials without an estimate."""
    sources: tuple[str, ...]
    """Where the speeds come from, such as ``12 earlier trials on cpu, 1 thread``."""
    by_method: dict[str, float]
    """Each method's share of the total time, largest first."""
    by_phase: dict[str, float]
    """The shares of ``prefill``, ``decoding`` and ``other``."""
    longest: str
    """Id of the longest trial."""
    longest_s: float


def estimate(todo: Plan, trials: Iterable[TrialSpec] | None = None) -> Estimate | None:
    """Estimate the cost of all pending trials, or of ``trials``. Return None if no trial's time is known."""
    costs = {trial: todo.costs[trial.trial_id] for trial in (todo.pending if trials is None else trials)}
    low_s = {trial: cost.low_s for trial, cost in costs.items() if cost.low_s is not None}
    high_s = {trial: cost.high_s for trial, cost in costs.items() if cost.high_s is not None}
    if not high_s:
        return None
    on_gpu = {trial for trial in high_s if costs[trial].on_gpu}
    gpus = 1.0 if todo.sweep.gpus_per_replica is None else todo.sweep.gpus_per_replica
    longest = max(high_s, key=high_s.__getitem__)
    return Estimate(
        low_s=_wall_s(todo, low_s, on_gpu),
        high_s=_wall_s(todo, high_s, on_gpu),
        gpu_hours_low=sum(low_s[trial] for trial in on_gpu) * gpus / 3600,
        gpu_hours_high=sum(high_s[trial] for trial in on_gpu) * gpus / 3600,
        n_known=len(high_s),
        n_unknown=len(costs) - len(high_s),
        sources=tuple(dict.fromkeys(costs[trial].source for trial in high_s)),
        by_method=_shares((trial.method, seconds) for trial, seconds in high_s.items()),
        by_phase=_shares(part for trial in high_s for part in costs[trial].by_phase.items()),
        longest=longest.trial_id,
        longest_s=high_s[longest],
    )


def spell_time(low_s: float, high_s: float) -> str:
    """Return ``about 12 min``, or ``3 min to 2 h 05 min`` if the two are far apart."""
    low, high = (duration(60 * round(s / 60) if s >= 600 else s).removesuffix(" 00 s") for s in (low_s, high_s))
    return f"about {high}" if high_s <= 1.2 * low_s or low == high else f"{low} to {high}"


def spell_hours(low: float, high: float) -> str:
    """Return the GPU hours as text, or ``-`` if no GPU is used."""
    texts = [f"{hours:.1f}" if hours < 10 else f"{hours:,.0f}" for hours in (low, high)]
    return "-" if not high else texts[1] if high <= 1.2 * low or texts[0] == texts[1] else " to ".join(texts)


def _wall_s(todo: Plan, seconds: dict[TrialSpec, float], on_gpu: set[TrialSpec]) -> float:
    alone = {trial for trial in seconds if todo.sweep.is_exclusive(trial, on_gpu=trial in on_gpu)}
    shared = {trial: s for trial, s in seconds.items() if trial not in alone}
    replicas = min(todo.sweep.replicas, sum(trial.shards for trial in shared))
    longest = max((s / trial.shards for trial, s in shared.items()), default=0.0)
    return max(sum(shared.values()) / max(1, replicas), longest) + sum(seconds[trial] for trial in alone)


def _shares(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    seconds: Counter[str] = Counter()
    for name, part in parts:
        seconds[name] += part  # type: ignore[assignment]  # a counter of seconds
    total = sum(seconds.values())
    return {name: one / total for name, one in seconds.most_common()} if total else {}
