"""How fast models are: what ``sweeps.plan.cost`` makes times of.

A dense prefill of n tokens takes ``n (a + b n)`` seconds, and a step of decoding always the same. A method's prefill
takes a share of the dense one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.environment import gpu_names

_TELLING = 4
"""Times as long as the shortest prompt: from there on, lengths tell what grows with their square."""


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
    turn_s: float | None = None
    """What a turn takes besides: tools, grades, tokenizing; None if not known, and then not counted."""
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
    """Seconds by unit of work (``Workload.units``) of trials without turns, by model and workload."""

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
