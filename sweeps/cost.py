"""What a trial costs: tokens from its spec and items, and seconds by the rates of its model.

The tokens are counted from above: prompts as dense prefill would have them, and every answer as long as it may be. The
time is what is to be expected, as one replica takes it without loading the model:

    turn = share of the method x dense prefill of its prompt + steps of its answer x time of a step + the rest

It is a range where something is not known: answers have one token or all that they may have if no earlier trial tells
how long the model's are, and a method that was never timed takes up to what dense prefill takes.
"""

from dataclasses import asdict, dataclass

from harness.agents import roles_for
from harness.spec import TrialSpec
from harness.topology import build_topology
from harness.workloads import BlendSpec, ContextsSpec, Item, ProximitySpec, TtftSpec, roles_of
from sweeps.rates import ModelRates, Rates, units_of

CHARACTERS_PER_TOKEN = 4
"""Of English prose, roughly, for any tokenizer on the allow-list."""

MARKUP_TOKENS = 20
"""Of a chat template, per prompt, roughly."""


@dataclass(frozen=True, slots=True)
class TrialTime:
    """Seconds of one trial on one replica."""

    low_s: float
    high_s: float
    prefill_s: float
    """The part of ``high_s`` until the first tokens of answers."""
    decode_s: float
    """The part of ``high_s`` that goes into the other tokens."""


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate of what a trial takes."""

    prompt_tokens: int
    """Of all turns together, as a dense prefill would count them; from above."""
    output_tokens: int
    """If every answer has its full length."""
    time: TrialTime | None
    """None if there are no rates of the model."""
    rates: ModelRates | None = None
    """That the time is by; None also for a trial without prompts."""

    @property
    def work(self) -> float:
        """How long it takes beside the other trials of its sweep, in tokens of a prompt."""
        return self.prompt_tokens + 20 * self.output_tokens  # one of an answer takes about as long as twenty


def cost_of(trial: TrialSpec, items: list[Item], rates: Rates, *, threads: int = 1) -> Cost:
    """The cost of a trial on these items, by what is known of its model. ``threads``: of one operation on a CPU."""
    decodes = not isinstance(trial.workload, TtftSpec) or trial.workload.decode
    model = rates.of(trial.model, batch_size=trial.batch_size, threads=threads, decodes=decodes)
    if isinstance(trial.workload, TtftSpec):
        return _ttft_cost(trial, trial.workload, model)
    if isinstance(trial.workload, BlendSpec):
        return Cost(0, 0, _unit_time(trial, rates))  # no prompts, no answers
    if isinstance(trial.workload, ContextsSpec | ProximitySpec):
        return Cost(_prefix_tokens(trial.workload, items), 0, _unit_time(trial, rates))
    turns = trial.rounds * trial.agents
    fixed, answers_read = map(sum, zip(*_prompts(trial), strict=True))
    question = sum(len(item.question) for item in items) // CHARACTERS_PER_TOKEN * turns
    prompt_tokens = len(items) * (fixed + answers_read * trial.max_new_tokens) + question
    time = None if model is None else _question_time(trial, items, model)
    return Cost(prompt_tokens, len(items) * turns * trial.max_new_tokens, time, model)


def _prompts(trial: TrialSpec) -> list[tuple[int, int]]:
    """Of each turn on an item: the tokens of its fixed text, and the answers it reads."""
    topology = build_topology(trial.topology, trial.agents, trial.seed)
    prompts = []
    team = roles_of(trial.workload)
    assert team is not None  # noqa: S101 - only timings have none
    for agent_id, role in enumerate(roles_for(team, trial.agents), start=1):
        fixed = MARKUP_TOKENS + (len(role.system) + len(role.user)) // CHARACTERS_PER_TOKEN
        read = len(topology.read_by(agent_id))
        prompts.append((fixed, read))
        prompts += [(fixed, read + len(topology.remembered_by(agent_id)))] * (trial.rounds - 1)
    return prompts


def _question_time(trial: TrialSpec, items: list[Item], rates: ModelRates) -> TrialTime:
    usual = rates.answer_tokens.get(roles_of(trial.workload) or "")
    share = _share(trial, rates, timing=False)
    low, high = (1.0, float(trial.max_new_tokens)) if usual is None else (min(usual, trial.max_new_tokens),) * 2
    return _span(_at(trial, items, rates, low, share[0]), _at(trial, items, rates, high, share[1], from_above=True))


def _at(
    trial: TrialSpec, items: list[Item], rates: ModelRates, answer_tokens: float, share: float, from_above: bool = False
) -> tuple[float, float, float]:
    """Seconds of prefill, of decoding and of the rest, if answers have that many tokens."""
    question = sum(len(item.question) for item in items) / CHARACTERS_PER_TOKEN / len(items)
    prompts = [fixed + question + read * answer_tokens for fixed, read in _prompts(trial)]
    dense = sum(rates.prefill_s(tokens, from_above=from_above) for tokens in prompts)
    steps = len(prompts) * (answer_tokens - 1) * (rates.step_s or 0.0)
    # A turn that is compared with dense is taken once more, with its answer. Turns that reuse nothing are not, but how
    # many these are depends on the items.
    again = 1 + trial.fidelity if trial.method != "dense" else 1.0
    rest = len(prompts) * (rates.turn_s or 0.0)
    return len(items) * (dense * (share + again - 1)), len(items) * steps * again, len(items) * rest


def _ttft_cost(trial: TrialSpec, workload: TtftSpec, rates: ModelRates | None) -> Cost:
    """In every arm one untimed sample and the repeats, and before them the one that fills the pools."""
    prompts = [workload.prompt_tokens(agent) for agent in range(1, trial.agents + 1)]
    engines = 1 if trial.method == "dense" else 2
    samples, filling = workload.repeats + 1, int(trial.kvcomm is not None)
    answers = trial.agents * (samples * engines + filling)
    outputs = answers * workload.output_tokens if workload.decode else 0
    tokens = sum(prompts) * (samples * (engines + 1) + filling)
    if rates is None:
        return Cost(tokens, outputs, None)
    spans = []
    for share, from_above in zip(_share(trial, rates, timing=True), (False, True), strict=True):
        dense = sum(rates.prefill_s(n, from_above=from_above) for n in prompts)
        if workload.decode:
            decoding = outputs * (rates.step_s or 0.0)
        else:  # the KV of a given answer takes one forward pass behind its prompt
            longer = sum(rates.prefill_s(n + workload.output_tokens, from_above=from_above) for n in prompts)
            decoding = (longer - dense) * (samples * engines + filling)
        prefill = dense * (2 * samples + filling + (engines - 1) * samples * share)
        spans.append((prefill, decoding, 0.0))
    return Cost(tokens, outputs, _span(*spans), rates)


def _prefix_tokens(workload: ContextsSpec | ProximitySpec, items: list[Item]) -> int:
    """Every prefix once, and behind it each token, alone."""
    if isinstance(workload, ContextsSpec):
        prefixes, tokens = len(items), 2 * workload.tokens
    else:
        prefixes, tokens = 2, 4 * workload.pairs
    length = MARKUP_TOKENS + sum(len(item.question) for item in items) // CHARACTERS_PER_TOKEN // len(items)
    return prefixes * (length + tokens)


def _unit_time(trial: TrialSpec, rates: Rates) -> TrialTime | None:
    seconds = rates.unit_s.get((trial.model, trial.workload.name))
    if seconds is None:
        return None
    seconds *= units_of(asdict(trial.workload))
    return TrialTime(seconds, seconds, 0.0, 0.0)


def _share(trial: TrialSpec, rates: ModelRates, *, timing: bool) -> tuple[float, float]:
    """Of the dense prefill, the least and the most that the method may take."""
    if trial.method == "dense":
        return 1.0, 1.0
    known = rates.shares.get((timing, trial.method))
    return (0.0, 1.0) if known is None else (known, known)


def _span(low: tuple[float, float, float], high: tuple[float, float, float]) -> TrialTime:
    return TrialTime(sum(low), sum(high), high[0], high[1])
