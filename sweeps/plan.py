"""What a sweep has left to do: which trials are done, which are pending, which lack data, and what they cost."""

from dataclasses import dataclass
from pathlib import Path

from harness import workloads
from harness.agents import roles_for
from harness.checkpoint import Checkpoints
from harness.damaged import DamagedFile, find_damaged
from harness.shards import check_shards
from harness.spec import TrialSpec
from harness.store import StoreError, read_attempts, read_records, read_trials, sweep_folders
from harness.tools.calls import runs_code
from harness.tools.sandbox import UnsafeSandboxError, require_safe
from harness.topology import build_topology
from harness.workloads import (
    UNGRADED,
    BlendSpec,
    ContextsSpec,
    DataMissingError,
    Item,
    ProximitySpec,
    TtftSpec,
    WorkloadSpec,
    has_conversation,
    roles_of,
)
from kvcomm_core.model_source import check_model, kv_shape
from sweeps.spec import SweepSpec
from sweeps.sweep_file import SweepError

CHARACTERS_PER_TOKEN = 4
"""Of English prose, roughly, for any tokenizer on the allow-list."""

MARKUP_TOKENS = 20
"""Of a chat template, per prompt, roughly."""


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate, from above, of what a trial takes."""

    prompt_tokens: int
    """Of all turns together, as a dense prefill would count them."""
    output_tokens: int
    """If every answer has its full length."""
    seconds: float | None
    """On one replica, by the rates of earlier trials of the same model; None if there are none."""

    @property
    def work(self) -> float:
        """How long it takes beside the other trials of its sweep, in tokens of a prompt."""
        return self.prompt_tokens + 20 * self.output_tokens  # one of an answer takes about as long as twenty


@dataclass(frozen=True, slots=True)
class Plan:
    """The trials of a sweep, sorted by what is to happen to them."""

    sweep: SweepSpec
    done: tuple[TrialSpec, ...]
    pending: tuple[TrialSpec, ...]
    left_out: tuple[TrialSpec, ...]
    missing: dict[str, str]
    """By workload of ``left_out``: what is missing and what can be done about it."""
    next_attempt: dict[str, int]
    """By trial id of ``pending``."""
    costs: dict[str, Cost]
    """By trial id of ``pending``."""
    damaged: tuple[DamagedFile, ...] = ()
    """In the folder of the sweep, and not counted: a run sets them aside first."""
    allow_unsafe_code: bool = False
    """The user's word that code written by a model may run where it cannot be confined."""
    checkpoints: Checkpoints | None = None
    """Where the trials keep theirs; None if they are to write none."""


def make_plan(sweep: SweepSpec, results: Path) -> Plan:
    """Compare the sweep with what is in the results folder. Writes nothing.

    Raises ``SweepError``, ``ModelError`` or ``StoreError`` if a pending trial could not run: its model is unknown,
    or its data is not at hand and ``skip_if_missing`` does not name its workload.
    """
    damaged = tuple(find_damaged(results / sweep.name))
    attempts = read_attempts(results / sweep.name, without={file.path for file in damaged})
    finished = {trial_id for trial_id, attempt in attempts.items() if attempt.finished is not None}
    done = tuple(trial for trial in sweep.trials if trial.trial_id in finished)
    undone = [trial for trial in sweep.trials if trial.trial_id not in finished]
    items: dict[tuple[WorkloadSpec, int], list[Item]] = {}
    missing: dict[str, str] = {}
    for trial in undone:
        key = (trial.workload, trial.seed)
        if key not in items and trial.workload.name not in missing:
            try:
                items[key] = workloads.load(*key)
            except DataMissingError as error:
                if trial.workload.name not in sweep.skip_if_missing:
                    raise SweepError(str(error)) from None
                missing[trial.workload.name] = str(error)
            except (ValueError, OSError) as error:  # malformed, or not to be read
                raise SweepError(f"workload {trial.workload.name}: {error}") from None
    pending = tuple(trial for trial in undone if trial.workload.name not in missing)
    for trial in pending:
        if trial.shards > 1:
            try:
                check_shards(trial.shards, len(items[trial.workload, trial.seed]))
            except ValueError as error:
                raise SweepError(str(error)) from None
    for model, needs_model in dict.fromkeys((trial.model, trial.needs_model) for trial in pending):
        if needs_model:
            check_model(model)
        else:
            kv_shape(model)
    rates = _rates(results) if pending else {}
    return Plan(
        sweep=sweep,
        done=done,
        pending=pending,
        left_out=tuple(trial for trial in undone if trial.workload.name in missing),
        missing=missing,
        next_attempt={t.trial_id: attempts[t.trial_id].last + 1 if t.trial_id in attempts else 1 for t in pending},
        costs={t.trial_id: _cost(t, items[t.workload, t.seed], rates) for t in pending},
        damaged=damaged,
        checkpoints=_checkpoints(sweep, results),
    )


def _checkpoints(sweep: SweepSpec, results: Path) -> Checkpoints | None:
    if not sweep.checkpoint_minutes:
        return None
    return Checkpoints((results / sweep.name).absolute(), seconds=60 * sweep.checkpoint_minutes)


def check_sandbox(plan: Plan) -> None:
    """Raise ``SweepError`` if a pending trial runs code that a model wrote, and this machine cannot confine it."""
    for trial in plan.pending:
        team = roles_of(trial.workload)
        if team is None or not has_conversation(trial.workload):
            continue
        if not runs_code(team, roles_for(team, trial.agents)):
            continue
        try:
            require_safe(plan.allow_unsafe_code)
        except UnsafeSandboxError as error:
            raise SweepError(f"workload {trial.workload.name}: {error}") from None
        return


@dataclass(frozen=True, slots=True)
class _Rate:
    prompt_token_s: float
    output_token_s: float


def _cost(trial: TrialSpec, items: list[Item], rates: dict[tuple[str, str], _Rate]) -> Cost:
    if isinstance(trial.workload, TtftSpec):
        return _ttft_cost(trial, trial.workload)
    if isinstance(trial.workload, BlendSpec):
        return Cost(0, 0, None)  # no prompts, no answers
    if isinstance(trial.workload, ContextsSpec | ProximitySpec):
        return _prefix_cost(trial.workload, items)
    topology = build_topology(trial.topology, trial.agents, trial.seed)
    fixed = answers = 0
    team = roles_of(trial.workload)
    assert team is not None  # noqa: S101 - only timings have none
    for agent_id, role in enumerate(roles_for(team, trial.agents), start=1):
        fixed += trial.rounds * (MARKUP_TOKENS + (len(role.system) + len(role.user)) // CHARACTERS_PER_TOKEN)
        answers += trial.rounds * len(topology.read_by(agent_id))
        answers += (trial.rounds - 1) * len(topology.remembered_by(agent_id))
    turns = trial.rounds * trial.agents
    question = sum(len(item.question) for item in items) // CHARACTERS_PER_TOKEN * turns
    prompt_tokens = len(items) * (fixed + answers * trial.max_new_tokens) + question
    output_tokens = len(items) * turns * trial.max_new_tokens
    rate = rates.get((trial.model, trial.method))
    seconds = None
    if rate is not None:
        seconds = prompt_tokens * rate.prompt_token_s + output_tokens * rate.output_token_s
    return Cost(prompt_tokens, output_tokens, seconds)


def _prefix_cost(workload: ContextsSpec | ProximitySpec, items: list[Item]) -> Cost:
    """Every prefix once, and behind it each token, alone."""
    if isinstance(workload, ContextsSpec):
        prefixes, tokens = len(items), 2 * workload.tokens
    else:
        prefixes, tokens = 2, 4 * workload.pairs
    length = MARKUP_TOKENS + sum(len(item.question) for item in items) // CHARACTERS_PER_TOKEN // len(items)
    return Cost(prefixes * (length + tokens), 0, None)


def _ttft_cost(trial: TrialSpec, workload: TtftSpec) -> Cost:
    """In every arm one untimed sample and the repeats, and before them the one that fills the pools."""
    prompts = sum(workload.prompt_tokens(agent) for agent in range(1, trial.agents + 1))
    engines = 1 if trial.method == "dense" else 2
    samples, filling = workload.repeats + 1, int(trial.kvcomm is not None)
    outputs = trial.agents * workload.output_tokens * (samples * engines + filling)
    return Cost(prompts * (samples * (engines + 1) + filling), outputs if workload.decode else 0, None)


def _rates(results: Path) -> dict[tuple[str, str], _Rate]:
    """By model and method: seconds per token over all finished trials in the results folder."""
    try:
        folders = sweep_folders(results)
    except StoreError:
        return {}
    names = ("prompt_tokens", "ttft_s", "output_tokens", "decode_s")
    sums: dict[tuple[str, str], list[float]] = {}
    for folder in folders:
        columns = ["trial_id", "attempt", "status", "model", "method", "workload"]
        damaged = {file.path for file in find_damaged(folder)}
        for row in read_trials(folder, without=damaged).select(columns).to_pylist():
            # A timing's turns are of several methods, and its answers need not be decoded; a probe has none.
            if row["status"] != "ok" or row["workload"] in UNGRADED:
                continue
            name = f"{row['trial_id']}-{row['attempt']}"
            if folder / "turns" / f"{name}.parquet" in damaged:
                continue
            turns = read_records(folder, "turns", [name]).to_pydict()
            totals = sums.setdefault((row["model"], row["method"]), [0.0] * len(names))
            for index, name in enumerate(names):
                totals[index] += sum(turns[name])
    return {
        key: _Rate(ttft_s / prompt_tokens, decode_s / output_tokens)
        for key, (prompt_tokens, ttft_s, output_tokens, decode_s) in sums.items()
        if prompt_tokens and output_tokens
    }
