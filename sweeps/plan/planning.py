"""The plan of a sweep: which trials are done, pending, or lack data or a model, and what they cost."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.agents import roles_for
from harness.environment import usable_cores
from harness.results.checkpoint import Checkpoints
from harness.results.damaged_files import DamagedFile, find_damaged
from harness.results.parquet_files import Attempts, read_attempts
from harness.spec import TrialSpec
from harness.tools.sandbox.jail.layers import UnsafeSandboxError
from harness.tools.sandbox.python_sandbox import require_safe
from harness.trials.shards import check_shards
from harness.workloads import DataMissingError, Item, Workload
from kvcomm_core.models.model_config import ModelMissingError
from kvcomm_core.models.model_source import check_chat_template, check_model, kv_shape
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.cost import Cost, cost_of
from sweeps.plan.earlier_trials import read_rates
from sweeps.plan.rates import Rates

Items = dict[tuple[Workload, int], list[Item]]
"""Items of trials, keyed by workload and seed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished attempt of a trial in another sweep's folder."""

    folder: Path
    attempt: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The trials of a sweep, grouped by what happens to them next."""

    sweep: SweepSpec
    done: tuple[TrialSpec, ...]
    pending: tuple[TrialSpec, ...]
    left_out: tuple[TrialSpec, ...]
    missing: dict[str, str]
    """Maps a workload or model of ``left_out`` to what is missing and how to get it."""
    next_attempt: dict[str, int]
    """Next attempt number of each ``pending`` or ``taken`` trial, keyed by trial id."""
    costs: dict[str, Cost]
    """Cost of each ``pending`` trial, keyed by trial id."""
    rates: Rates = field(default_factory=Rates)
    """Rates behind the estimated times."""
    taken: tuple[tuple[TrialSpec, Finished], ...] = ()
    """Trials that a sweep of ``take_from`` has finished; a run copies them."""
    damaged: tuple[DamagedFile, ...] = ()
    """Damaged files in the sweep's folder. They do not count; a run sets them aside first."""
    allow_unsafe_code: bool = False
    """Whether the user allows model-written code to run on a machine that cannot confine it."""
    checkpoints: Checkpoints | None = None
    """Where trials keep their checkpoints. None if they write none."""


def make_plan(sweep: SweepSpec, results: Path, *, lenient: bool = False, known: Rates | None = None) -> Plan:
    """Compare the sweep with the results folder. Write nothing.

    ``lenient`` leaves out trials whose data or model is missing here but exists elsewhere. ``known`` replaces the rates
    of the results folder. Raises ``SweepError``, ``ModelError`` or ``StoreError`` if a pending trial could not run: its
    model is unknown, or its data is missing and neither ``lenient`` nor ``skip_if_missing`` leaves it out.
    """
    damaged = tuple(find_damaged(results / sweep.name))
    attempts = read_attempts(results / sweep.name, without={file.path for file in damaged})
    done = tuple(trial for trial in sweep.trials if _is_finished(attempts, trial))
    undone = [trial for trial in sweep.trials if not _is_finished(attempts, trial)]
    taken = _finished_elsewhere(undone, [results / name for name in sweep.take_from])
    to_run = _what_can_run([trial for trial in undone if trial.trial_id not in taken], sweep, lenient)
    rates = known if known is not None else read_rates(results) if to_run.pending else Rates()
    wanted = {trial.trial_id for trial in to_run.pending} | taken.keys()
    return Plan(
        sweep=sweep,
        done=done,
        pending=to_run.pending,
        left_out=to_run.left_out,
        missing=to_run.missing,
        next_attempt={key: attempts[key].last + 1 if key in attempts else 1 for key in sorted(wanted)},
        costs={
            trial.trial_id: cost_of(trial, to_run.items_of(trial), rates, threads=_threads(sweep, trial))
            for trial in to_run.pending
        },
        rates=rates,
        taken=tuple((trial, taken[trial.trial_id]) for trial in sweep.trials if trial.trial_id in taken),
        damaged=damaged,
        checkpoints=_checkpoints(sweep, results),
    )


@dataclass(frozen=True, slots=True)
class _ToRun:
    """The trials that no sweep has finished."""

    pending: tuple[TrialSpec, ...]
    left_out: tuple[TrialSpec, ...]
    missing: dict[str, str]
    items: Items

    def items_of(self, trial: TrialSpec) -> list[Item]:
        """Return the items of a pending trial."""
        return self.items[trial.workload, trial.seed]


def _what_can_run(trials: list[TrialSpec], sweep: SweepSpec, lenient: bool) -> _ToRun:
    """Separate the trials whose data and model are available from the others. Raises like ``make_plan``."""
    items, missing = _load_items(trials, sweep, lenient)
    missing |= _check_models((trial for trial in trials if trial.workload.name not in missing), lenient)
    pending = tuple(trial for trial in trials if not missing.keys() & {trial.workload.name, trial.model})
    left_out = tuple(trial for trial in trials if missing.keys() & {trial.workload.name, trial.model})
    for trial in pending:
        if trial.shards > 1:
            try:
                check_shards(trial.shards, len(items[trial.workload, trial.seed]))
            except ValueError as error:
                raise SweepError(str(error)) from None
    return _ToRun(pending, left_out, missing, items)


def _threads(sweep: SweepSpec, trial: TrialSpec) -> int:
    """Return the threads that a trial would get on this machine's CPU."""
    alone = sweep.is_exclusive(trial, on_gpu=False)
    return sweep.cpus_per_replica or max(1, usable_cores() // (1 if alone else sweep.replicas))


def _is_finished(attempts: dict[str, Attempts], trial: TrialSpec) -> bool:
    found = attempts.get(trial.trial_id)
    return found is not None and found.finished is not None


def _finished_elsewhere(trials: list[TrialSpec], folders: list[Path]) -> dict[str, Finished]:
    """Return finished attempts by trial id. The first folder with a finished attempt counts."""
    found: dict[str, Finished] = {}
    for folder in folders if trials else []:
        attempts = read_attempts(folder, without={file.path for file in find_damaged(folder)})
        for trial in trials:
            attempt = attempts[trial.trial_id].finished if trial.trial_id in attempts else None
            if attempt is not None:
                found.setdefault(trial.trial_id, Finished(folder, attempt))
    return found


def _load_items(trials: list[TrialSpec], sweep: SweepSpec, lenient: bool) -> tuple[Items, dict[str, str]]:
    """Load the items of the trials. Also return what is missing, by workload. Raises ``SweepError``."""
    items: Items = {}
    missing: dict[str, str] = {}
    for trial in trials:
        key = (trial.workload, trial.seed)
        if key in items or trial.workload.name in missing:
            continue
        try:
            items[key] = trial.workload.load(trial.seed)
        except DataMissingError as error:
            named = getattr(trial.workload, "path", None) is not None  # no other file can replace it
            if trial.workload.name not in sweep.skip_if_missing and (named or not lenient):
                raise SweepError(str(error)) from None
            missing[trial.workload.name] = str(error)
        except (ValueError, OSError) as error:  # malformed or unreadable
            raise SweepError(f"workload {trial.workload.name}: {error}") from None
    return items, missing


def _check_models(trials: Iterable[TrialSpec], lenient: bool) -> dict[str, str]:
    """Return why each missing model is missing. Raises ``ModelError`` if no machine can serve it, or if not lenient."""
    missing: dict[str, str] = {}
    kinds = dict.fromkeys(
        (trial.model, trial.workload.needs_weights, trial.workload.team is not None) for trial in trials
    )
    for model, needs_model, reads_text in kinds:
        try:
            if needs_model:
                check_model(model)
            else:
                kv_shape(model)
            if reads_text:
                check_chat_template(model)
        except ModelMissingError as error:
            if not lenient:
                raise
            missing[model] = str(error)
    return missing


def _checkpoints(sweep: SweepSpec, results: Path) -> Checkpoints | None:
    if not sweep.checkpoint_minutes:
        return None
    return Checkpoints((results / sweep.name).absolute(), seconds=60 * sweep.checkpoint_minutes)


def check_sandbox(plan: Plan) -> None:
    """Raise ``SweepError`` if a pending trial runs model-written code and this machine cannot confine it."""
    for trial in plan.pending:
        team = trial.workload.team if trial.workload.converses else None
        if team is None or not trial.workload.runs_model_code(roles_for(team, trial.agents)):
            continue
        try:
            require_safe(plan.allow_unsafe_code)
        except UnsafeSandboxError as error:
            raise SweepError(f"workload {trial.workload.name}: {error}") from None
        return
