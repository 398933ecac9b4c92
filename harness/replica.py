"""A replica: pins one model and runs trials on it, one after another.

A plain class. The controller makes it a Ray actor; ``kvcomm run --in-process`` calls the same object itself.
"""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from harness.environment import capture_environment
from harness.results.checkpoint import Checkpoints
from harness.results.summary import failed_result
from harness.results.trial_result import Status, TrialResult
from harness.spec import DTypeName, TrialSpec
from harness.text import storable

if TYPE_CHECKING:
    from kvcomm_core.models.loading import LoadedModel

OnSample = Callable[[int, int], None]
"""Called with (samples done, samples in all) after each sample of a trial."""


class LoadModel(Protocol):
    """The signature of ``kvcomm_core.models.loading.load_model``."""

    def __call__(self, name: str, *, dtype: DTypeName) -> "LoadedModel": ...


class RunTrial(Protocol):
    """The signature of ``harness.trials.runner.run_trial``."""

    def __call__(
        self,
        spec: TrialSpec,
        model: "LoadedModel | None",
        *,
        sweep: str,
        attempt: int,
        on_sample: OnSample,
        shard: int | None = None,
    ) -> TrialResult: ...


Report = Callable[[str, int, int | None], None]
"""The same, with the trial id before them. The number in all is None when the model is there and the trial begins."""


class ModelLoadError(Exception):
    """The model of a trial cannot be loaded, so no trial of it can run; the message says why."""

    def __init__(self, message: str, status: Status = "error") -> None:
        super().__init__(message)
        self.status: Status = status


class Replica:
    """Holds at most one model, and keeps it until a trial wants another."""

    def __init__(
        self,
        *,
        cpus: int,
        load: LoadModel | None = None,
        run: RunTrial | None = None,
        report: Report,
        exclusive: bool = False,
        allow_unsafe_code: bool = False,
        checkpoints: Checkpoints | None = None,
        send_heartbeats: Callable[[], None] | None = None,
    ) -> None:
        """One operation uses ``cpus`` threads, so that replicas on one machine share its cores.

        ``exclusive``: no other replica of the sweep works on this machine meanwhile, as the results then say.
        ``allow_unsafe_code``, ``checkpoints``: see ``run_trial``.
        ``send_heartbeats``: runs in a thread of its own, as long as this process does.
        ``load`` and ``run`` default to the real ones, imported here: in the process that needs torch.
        """
        if send_heartbeats is not None:  # before what may hang
            threading.Thread(target=send_heartbeats, name="heartbeats", daemon=True).start()
        if load is None:
            import torch

            from kvcomm_core.models.loading import load_model

            torch.set_num_threads(cpus)
            load = load_model
        if run is None:
            from harness.trials.runner import run_trial

            run = partial(run_trial, allow_unsafe_code=allow_unsafe_code, checkpoints=checkpoints)
        self._load: LoadModel = load
        self._run: RunTrial = run
        self._report = report
        self._exclusive = exclusive
        self._checkpoints = checkpoints
        self._key: tuple[str, str] | None = None
        self._model: LoadedModel | None = None

    def run(self, spec: TrialSpec, sweep: str, attempt: int, shard: int | None = None) -> TrialResult:
        """Run one trial, or one ``shard`` of it for ``merge_shards``.

        Raises ``ModelLoadError``; every other failure is a result with its status.
        """
        model = self._model_for(spec)
        on_sample = partial(self._report, spec.trial_id)
        self._report(spec.trial_id, 0, None)
        run = self._run if shard is None else partial(self._run, shard=shard)
        began = datetime.now(UTC)
        try:
            result = run(spec, model, sweep=sweep, attempt=attempt, on_sample=on_sample)
            messages = [*self._no_checkpoints(result), *result.messages]
            return replace(result, trial=replace(result.trial, exclusive=self._exclusive), messages=messages)
        except Exception as error:  # noqa: BLE001 - its rows could not be made
            from harness.memory import is_out_of_memory

            return failed_result(
                spec,
                "oom" if is_out_of_memory(error) else "error",
                traceback.format_exc(),
                sweep=sweep,
                attempt=attempt,
                started_at=began,
                environment=capture_environment(),
            )

    def _no_checkpoints(self, result: TrialResult) -> list[str]:
        """With the first result: that this machine cannot write checkpoints, if so."""
        if self._checkpoints is None or self._checkpoints.are_possible:
            return []
        folder, self._checkpoints = self._checkpoints.sweep_folder, None
        return [f"{folder} is not there on {result.trial.host}: trials on it leave no checkpoints"]

    def _model_for(self, spec: TrialSpec) -> "LoadedModel | None":
        if not spec.workload.needs_weights:
            return None
        key = (spec.model, spec.dtype)
        if self._model is None or self._key != key:
            self._model = None  # the old weights go before the new ones come
            try:
                self._model = self._load(spec.model, dtype=spec.dtype)
            except Exception as error:  # noqa: BLE001 - whatever it is, trials of other models go on
                from harness.memory import is_out_of_memory

                status: Status = "oom" if is_out_of_memory(error) else "error"
                raise ModelLoadError(storable(f"model {spec.model!r} cannot be loaded: {error}"), status) from None
            self._key = key
        return self._model


@dataclass(frozen=True, slots=True)
class News:
    """What is known of the replica in a slot."""

    start: int
    """The number of its process among those that were started in the slot."""
    heartbeat: int | None = None
    """The number of the last one; None before the first."""
    position: tuple[str, int, int | None] | None = None
    """Trial id, samples done, samples in all if known; None before its first trial begins, its model being there."""


class Board:
    """Where the replicas post how far they are: an actor of its own, as a busy replica cannot be asked."""

    def __init__(self) -> None:
        self._news: dict[int, News] = {}

    def post(self, replica: int, start: int, trial_id: str, done: int, total: int | None) -> None:
        """Replica number ``replica`` has finished ``done`` of ``total`` samples of a trial, whose model it has."""
        if known := self._known(replica, start):
            self._news[replica] = replace(known, position=(trial_id, done, total))

    def beat(self, replica: int, start: int, number: int) -> None:
        """It is alive: heartbeat ``number``."""
        if known := self._known(replica, start):
            self._news[replica] = replace(known, heartbeat=number)

    def read(self) -> dict[int, News]:
        """By replica."""
        return dict(self._news)

    def _known(self, replica: int, start: int) -> News | None:
        """Of this process; None if it has been replaced, and these are its last words."""
        known = self._news.get(replica)
        if known is None or known.start < start:
            return News(start)
        return known if known.start == start else None
