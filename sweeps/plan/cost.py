"""The cost of a trial: tokens from its spec and items, and seconds from the rates of its model.

The token count is an upper bound: it takes prompts as dense prefill would, and every answer at full length. The time is
the expected time on one replica, without loading the model:

    turn = share of the method x dense prefill of its prompt + steps of its answer x time of a step + the rest

The time is a range if something is unknown. Without earlier trials, an answer has between one token and its full
length. A method that was never timed takes between no time and the time of dense prefill.
"""

from dataclasses import dataclass

from harness.spec import TrialSpec
from harness.workloads import Item
from harness.workloads.base import ExpectedTurns
from sweeps.plan.rates import ModelRates, Rates


@dataclass(frozen=True, slots=True)
class TrialTime:
    """Seconds of one trial on one replica."""

    low_s: float
    high_s: float
    prefill_s: float
    """The part of ``high_s`` until the first tokens of answers."""
    decode_s: float
    """The part of ``high_s`` for the remaining tokens."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The estimated cost of a trial."""

    prompt_tokens: int
    """Prompt tokens of all turns as dense prefill would count them; an upper bound."""
    output_tokens: int
    """Answer tokens if every answer has its full length."""
    time: TrialTime | None
    """None if the model has no rates."""
    rates: ModelRates | None = None
    """Rates behind the time. None also for a trial without prompts."""

    @property
    def work(self) -> float:
        """Length relative to the other trials of the sweep, in prompt tokens."""
        return self.prompt_tokens + 20 * self.output_tokens  # one answer token takes as long as twenty


def cost_of(trial: TrialSpec, items: list[Item], rates: Rates, *, threads: int = 1) -> Cost:
    """Estimate the cost of a trial on these items. ``threads`` is the number per operation on a CPU."""
    work = trial.workload.work(trial, items)
    if not work.turns:
        return Cost(round(work.prompt_tokens), 0, _unit_time(trial, rates))
    prompts = sum(t.count * (t.prompt_tokens + t.answers_read * t.output_tokens) for t in work.turns)
    outputs = sum(t.count * t.output_tokens for t in work.turns if not t.given)
    model = rates.of(trial.model, batch_size=trial.batch_size, threads=threads, decodes=outputs > 0)
    time = None if model is None else _time(trial, work.turns, model)
    return Cost(round(prompts), round(outputs), time, model)


def _time(trial: TrialSpec, turns: tuple[ExpectedTurns, ...], rates: ModelRates) -> TrialTime:
    """Return the range from the shortest answers and fastest possible method to the longest and slowest."""
    usual = rates.answer_tokens.get(trial.workload.team or "")
    low, high = ([_seconds(trial, turn, rates, usual, highest=highest) for turn in turns] for highest in (False, True))
    prefill_s, decode_s = (sum(seconds[part] for seconds in high) for part in (0, 1))
    return TrialTime(sum(map(sum, low)), sum(map(sum, high)), prefill_s, decode_s)


def _seconds(
    trial: TrialSpec, turns: ExpectedTurns, rates: ModelRates, usual_tokens: float | None, *, highest: bool
) -> tuple[float, float, float]:
    """Return the seconds of prefill, of decoding and of the rest."""
    answer = float(turns.output_tokens)
    if not trial.workload.timing:  # a timing's answers have their full length
        answer = min(usual_tokens, answer) if usual_tokens is not None else answer if highest else 1.0
    tokens = turns.prompt_tokens + turns.answers_read * answer
    dense_s = rates.prefill_s(tokens, from_above=highest)
    if turns.given:
        answer_s = rates.prefill_s(tokens + answer, from_above=highest) - dense_s
    else:
        answer_s = max(0.0, answer - 1) * (rates.step_s or 0.0)
    # Grading and tools belong to the trial's own turns, not to the dense turns they are compared with.
    rest_s = (rates.turn_s or 0.0) if turns.arm == trial.method and not trial.workload.timing else 0.0
    share = _share(trial, turns.arm, rates)[highest]
    return turns.count * dense_s * share, turns.count * answer_s, turns.count * rest_s


def _unit_time(trial: TrialSpec, rates: Rates) -> TrialTime | None:
    seconds = rates.unit_s.get((trial.model, trial.workload.name))
    if seconds is None:
        return None
    seconds *= trial.workload.units
    return TrialTime(seconds, seconds, 0.0, 0.0)


def _share(trial: TrialSpec, arm: str, rates: ModelRates) -> tuple[float, float]:
    """Return the least and the greatest fraction of the dense prefill that an arm's turns may take."""
    if arm in ("bare", "dense"):
        return 1.0, 1.0
    known = rates.shares.get((trial.workload.timing, arm))
    return (0.0, 1.0) if known is None else (known, known)
