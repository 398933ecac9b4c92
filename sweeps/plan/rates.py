"""The speed of models, from which ``sweeps.plan.cost`` computes times.

A dense prefill of n tokens takes ``n (a + b n)`` seconds. A decoding step takes constant time. A method's prefill takes
a fraction of the dense one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.environment import gpu_names

_TELLING = 4
"""How many times longer than the shortest prompt the longest must be for a fit of the quadratic term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRates:
    """The speed of one model under given conditions."""

    device: str
    """``cpu``, or the name of the GPU."""
    threads: int | None = None
    """Threads per operation on a CPU. None if unknown, or on a GPU."""
    batch_size: int = 1
    """Items processed together."""
    n_trials: int = 0
    """Number of trials behind the rates; 0 if a calibration measured them."""
    source: str
    """Where the rates come from, for display, such as ``12 earlier trials``."""
    token_s: float
    """Seconds of a dense prefill per token: ``a`` in the module's formula."""
    token_pair_s: float
    """Seconds of a dense prefill per pair of tokens: ``b`` in the module's formula."""
    longest: int = 0
    """Tokens of the longest timed prompt."""
    step_s: float | None
    """Seconds to decode one token. None if no answer was decoded."""
    turn_s: float | None = None
    """Seconds of a turn's other work: tools, grading, tokenizing. None if unknown; it is then not counted."""
    shares: Mapping[tuple[bool, str], float] = field(default_factory=dict)
    """Fraction of the dense prefill's time, keyed by whether the trial is a timing, and by method."""
    answer_tokens: Mapping[str, float] = field(default_factory=dict)
    """Mean length of an answer, keyed by workload."""

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def conditions(self) -> str:
        """Conditions of the measurement as text, such as ``cpu, 1 thread``."""
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return f"{self.device}{threads}{f', batches of {self.batch_size}' if self.batch_size > 1 else ''}"

    def prefill_s(self, tokens: float, *, from_above: bool = False) -> float:
        """Return the seconds of a dense prefill of a prompt.

        ``from_above`` doubles them if the prompt is more than twice as long as any timed prompt.
        """
        seconds = tokens * (self.token_s + self.token_pair_s * tokens)
        return 2 * seconds if from_above and tokens > 2 * self.longest else seconds


@dataclass(frozen=True, slots=True)
class Rates:
    """All known rates. Empty if none are known."""

    models: Mapping[str, tuple[ModelRates, ...]] = field(default_factory=dict)
    """Rates of each model, keyed by name."""
    unit_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Seconds per unit of work (``Workload.units``) of trials without turns, keyed by model and workload."""

    def of(self, model: str, *, batch_size: int, threads: int, decodes: bool) -> ModelRates | None:
        """Return the rates under the conditions nearest to a trial's on this machine, or None if there are none.

        Rates without a decoding time do not count if the trial ``decodes``. The device matters most, then the threads
        (on a CPU), then the batch size. Smaller batches count as nearer because they are slower.
        """
        here = this_device()
        known = [one for one in self.models.get(model, ()) if one.step_s is not None or not decodes]

        def nearness(rates: ModelRates) -> tuple[object, ...]:
            size = rates.batch_size
            near_size = (True, size) if size <= batch_size else (False, -size)
            return rates.device == here, rates.threads in (None, threads), *near_size, rates.n_trials

        return max(known, key=nearness, default=None)


def this_device() -> str:
    """Return the kind of device that models are loaded on here."""
    names = gpu_names()
    return names[0] if names else "cpu"


def fit(points: Iterable[tuple[int, float]]) -> tuple[float, float]:
    """Fit a and b of ``seconds = tokens (a + b tokens)`` by least squares of the seconds per token.

    Neither is negative. ``points`` holds tokens and seconds, at least one pair. Prompts of similar length cannot
    separate a from b; then b is 0.
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
