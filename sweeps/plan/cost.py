"""The cost of a trial: tokens from its spec and items, and seconds from the rates of its model.

The token count is an upper bound: it takes prompts as dense prefill would, and every answer at full length. The time is
the expected time of the turns on one replica, without loading the model, grading and tools. It is a range if something
is unknown. Without earlier trials, an answer has between one token and its full length. A method that was never timed
takes between no time and the time of dense prefill.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harness.spec import TrialSpec
from harness.workloads import Item
from harness.workloads.base import ExpectedTurns, Work
from sweeps.plan.rates import Rate, Rates, conditions_here, prefill_by, rates_near
from sweeps.wording import counted


@dataclass(frozen=True, slots=True)
class Cost:
    """The estimated cost of a trial."""

    prompt_tokens: int
    """Prompt tokens of all turns as dense prefill would count them; an upper bound."""
    output_tokens: int
    """Answer tokens if every answer has its full length."""
    low_s: float | None = None
    """Seconds on one replica, from below. None if unknown."""
    high_s: float | None = None
    """The same from above."""
    by_phase: Mapping[str, float] = field(default_factory=dict)
    """The parts of ``high_s``: ``prefill`` until the first tokens, ``decoding`` of the others, or ``other``."""
    on_gpu: bool = False
    """Whether the seconds are those of a GPU."""
    source: str = ""
    """Where the seconds come from, such as ``12 earlier trials on cpu, 1 thread``."""

    @property
    def work(self) -> float:
        """Length relative to the other trials of the sweep, in prompt tokens."""
        return self.prompt_tokens + 20 * self.output_tokens  # one answer token takes as long as twenty


def cost_of(trial: TrialSpec, items: list[Item], rates: Rates, *, threads: int = 1) -> Cost:
    """Estimate the cost of a trial on these items. ``threads`` is the number per operation on a CPU."""
    work = trial.workload.work(trial, items)
    prompts = sum(t.count * (t.prompt_tokens + t.answers_read * _limit_of_read(t)) for t in work.turns)
    outputs = sum(t.count * t.output_tokens for t in work.turns if not t.given)
    cost = Cost(round(work.prompt_tokens + prompts), round(outputs))
    known = rates_near(rates, trial.model, conditions_here(trial, threads))
    if work.turns:
        basis = known.get(prefill_by("dense", trial.workload)) or known.get("dense") or known.get("timing dense")
    else:
        basis = known.get(f"all of {trial.workload.name}")
    if basis is None or (outputs and "decoding" not in known):
        return cost
    low, high = (_phases(trial, work, known, basis, highest=highest) for highest in (False, True))
    n_trials = round(rates[trial.model][basis.conditions]["trials"])
    measured = counted(n_trials, "earlier trial") if n_trials else "a measurement just now"
    return replace(
        cost,
        low_s=sum(low.values()),
        high_s=sum(high.values()),
        by_phase=high,
        on_gpu=not basis.conditions.startswith("cpu"),
        source=f"{measured} on {basis.conditions}",
    )


def _phases(trial: TrialSpec, work: Work, known: Mapping[str, Rate], basis: Rate, *, highest: bool) -> dict[str, float]:
    """Return the seconds of each phase, from above or from below.

    ``basis`` is the rate of dense prefill or, without turns, of the whole trial.
    """
    if not work.turns:
        return {"other": basis.amount * trial.workload.units}
    usual = known.get(f"answers of {trial.team_label}")
    phases = {"prefill": 0.0, "decoding": 0.0}
    for turn in work.turns:
        answer, read = float(turn.output_tokens), _limit_of_read(turn)
        if not trial.workload.timing:  # a timing's answers have their full length
            answer, read = (
                min(limit, usual.amount) if usual else limit if highest else 1.0 for limit in (answer, read)
            )
        own = known.get(prefill_by(turn.arm, trial.workload))
        token_s = own.amount if own else basis.amount if highest or turn.arm in ("bare", "dense") else 0.0
        phases["prefill"] += turn.count * token_s * (turn.prompt_tokens + turn.answers_read * read)
        if turn.given:
            phases["decoding"] += turn.count * basis.amount * answer
        elif answer > 1:
            phases["decoding"] += turn.count * known["decoding"].amount * (answer - 1)
    return phases


def _limit_of_read(turn: ExpectedTurns) -> float:
    """Return the mean of the maximum lengths of the answers that a turn reads."""
    return float(turn.output_tokens) if turn.read_tokens is None else turn.read_tokens
