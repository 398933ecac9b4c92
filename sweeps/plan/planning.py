"""The plan of a sweep: which trials are done, pending, or lack data or a model, and what they cost."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.cells import flatten, name_cells
from harness.environment import usable_cores
from harness.results.checkpoint import Checkpoints
from harness.results.damaged_files import DamagedFile, find_damaged
from harness.results.sweep_folder import read_attempts
from harness.spec import TrialSpec
from harness.tools.sandbox.jail.layers import UnsafeSandboxError
from harness.tools.sandbox.python_sandbox import require_safe
from harness.trials.shards import check_shards
from harness.workloads import DataMissingError, Item, Workload
from kvcomm_core.models.model_config import ModelMissingError
from kvcomm_core.models.model_source import check_chat_template, check_model, kv_shape, model_config
from kvcomm_core.models.quantisation import check_int8
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.cost import Cost, cost_of
from sweeps.plan.memory import UNKNOWN, Device, Memory, forecast, this_device
from sweeps.plan.rates import Rates, read_rates

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
    rates: Rates = field(default_factory=dict)
    """Rates behind the estimated times."""
    taken: dict[str, Finished] = field(default_factory=dict)
    """Trials that a sweep of ``take_from`` has finished, keyed by trial id; a run copies them."""
    damaged: tuple[DamagedFile, ...] = ()
    """Damaged files in the sweep's folder. They do not count; a run sets them aside first."""
    allow_unsafe_code: bool = False
    """Whether the user allows model-written code to run on a machine that cannot confine it."""
    memory: dict[str, Memory] = field(default_factory=dict)
    """Memory that a replica needs for each ``pending`` trial, keyed by trial id. Trials for which it is unknown are not
    in it."""
    device: Device = UNKNOWN
    """The memory of this machine."""
    checkpoints: Checkpoints | None = None
    """Where trials keep their checkpoints. None if they write none."""

    @property
    def names(self) -> dict[str, str]:
        """The name of each trial of the sweep, made of what sets it apart from the others, keyed by trial id."""
        cells = name_cells([flatten(trial.to_dict()) for trial in self.sweep.trials])
        several_seeds = len({trial.seed for trial in self.sweep.trials}) > 1
        return {
            trial.trial_id: f"{cell}, seed {trial.seed}" if several_seeds else str(cell)
            for trial, cell in zip(self.sweep.trials, cells, strict=True)
        }


def make_plan(
    sweep: SweepSpec, results: Path, *, lenient: bool = False, known: Rates | None = None, calibrate: bool = False
) -> Plan:
    """Compare the sweep with the results folder. Write nothing.

    ``lenient`` leaves out trials whose data or model is missing here but exists elsewhere. ``known`` replaces the rates
    of the results folder. ``calibrate`` measures the models that have none, and adds them to ``known``. Raises
    ``SweepError``, ``ModelError`` or ``StoreError`` if a pending trial could not run: its model is unknown, or its data
    is missing and neither ``lenient`` nor ``skip_if_missing`` leaves it out.
    """
    damaged = tuple(find_damaged(results / sweep.name))
    attempts = read_attempts(results / sweep.name, without={file.path for file in damaged})
    finished = {trial_id for trial_id, found in attempts.items() if found.finished is not None}
    undone = [trial for trial in sweep.trials if trial.trial_id not in finished]
    taken = _finished_elsewhere(undone, [results / name for name in sweep.take_from])
    to_run = [trial for trial in undone if trial.trial_id not in taken]
    items, missing = _load_items(to_run, sweep, lenient)
    missing |= _check_models((trial for trial in to_run if trial.workload.name not in missing), lenient)
    pending = [trial for trial in to_run if not missing.keys() & {trial.workload.name, trial.model}]
    rates = known if known is not None else read_rates(results) if pending else {}
    if calibrate:
        from sweeps.plan.calibration import measure_unknown  # imported here, as it may need torch

        models = dict.fromkeys(trial.model for trial in pending if trial.workload.needs_weights)
        measure_unknown(rates, models, threads=max(1, usable_cores() // sweep.replicas))
    costs: dict[str, Cost] = {}
    memory: dict[str, Memory] = {}
    device = this_device()
    minutes = sweep.checkpoint_minutes
    for trial in pending:
        own = items[trial.workload, trial.seed]
        if trial.shards > 1:
            try:
                check_shards(trial.shards, len(own))
            except ValueError as error:
                raise SweepError(str(error)) from None
        costs[trial.trial_id] = cost_of(trial, own, rates, threads=_threads(sweep, trial))
        need = forecast(trial, own, on_gpu=device.name == "GPU")
        if need is not None:
            memory[trial.trial_id] = need
    return Plan(
        sweep=sweep,
        done=tuple(trial for trial in sweep.trials if trial.trial_id in finished),
        pending=tuple(pending),
        left_out=tuple(trial for trial in to_run if trial.trial_id not in costs),
        missing=missing,
        next_attempt={key: attempts[key].last + 1 if key in attempts else 1 for key in sorted({*costs, *taken})},
        costs=costs,
        rates=rates,
        taken=taken,
        damaged=damaged,
        memory=memory,
        device=device,
        checkpoints=Checkpoints((results / sweep.name).absolute(), seconds=60 * minutes) if minutes else None,
    )


def _threads(sweep: SweepSpec, trial: TrialSpec) -> int:
    """Return the threads that a trial would get on this machine's CPU."""
    alone = sweep.is_exclusive(trial, on_gpu=False)
    return sweep.cpus_per_replica or max(1, usable_cores() // (1 if alone else sweep.replicas))


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
        (trial.model, trial.workload.needs_weights, trial.weights, trial.team_label is not None) for trial in trials
    )
    for model, needs_model, weights, reads_text in kinds:
        try:
            if needs_model:
                check_model(model)
                if weights == "int8":
                    check_int8(model, model_config(model))
            else:
                kv_shape(model)
            if reads_text:
                check_chat_template(model)
        except ModelMissingError as error:
            if not lenient:
                raise
            missing[model] = str(error)
    return missing


def check_sandbox(plan: Plan) -> None:
    """Raise ``SweepError`` if a pending trial runs model-written code and this machine cannot confine it."""
    for trial in plan.pending:
        roles = trial.roles if trial.workload.converses else ()
        if roles and trial.workload.runs_model_code(roles):
            try:
                require_safe(plan.allow_unsafe_code)
            except UnsafeSandboxError as error:
                raise SweepError(f"workload {trial.workload.name}: {error}") from None
            return
