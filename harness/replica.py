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
from harness.secrets import take_secrets
from harness.spec import DTypeName, TrialSpec, WeightsName
from harness.text import storable

if TYPE_CHECKING:
    from kvcomm_core.models.loading import LoadedModel

OnSample = Callable[[int, int], None]
"""Called with (samples done, total samples) after each sample of a trial."""


class LoadModel(Protocol):
    """The signature of ``kvcomm_core.models.loading.load_model``."""

    def __call__(self, name: str, *, dtype: DTypeName, weights: WeightsName) -> "LoadedModel": ...


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
"""Like ``OnSample``, with the trial id first. The total is None when the model is loaded and the trial begins."""


class ModelLoadError(Exception):
    """A trial's model cannot be loaded, so none of its trials can run; the message says why."""

    def __init__(self, message: str, status: Status = "error") -> None:
        super().__init__(message)
        self.status: Status = status


class Replica:
    """A replica holds at most one model, and keeps it until a trial needs another."""

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
        """Create a replica that uses ``cpus`` threads per operation, so that replicas on one machine share its cores.

        ``exclusive`` means that no other replica of the sweep works on this machine meanwhile; the results record it.
        ``allow_unsafe_code`` and ``checkpoints`` are those of ``run_trial``. ``send_heartbeats`` runs in a thread of
        its own for as long as this process lives. ``load`` and ``run`` default to the real functions, which are
        imported here, in the process that needs torch.
        """
        if send_heartbeats is not None:  # before anything that may hang
            threading.Thread(target=send_heartbeats, name="heartbeats", daemon=True).start()
        take_secrets()  # before the libraries that read them
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
        self._key: tuple[str, str, str] | None = None
        self._model: LoadedModel | None = None

    def run(self, spec: TrialSpec, sweep: str, attempt: int, shard: int | None = None) -> TrialResult:
        """Run one trial, or one ``shard`` of it for ``merge_shards``.

        Raise ``ModelLoadError``; every other failure is a result with its status.
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
            from kvcomm_core.models.devices import is_out_of_memory

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
        """Add a message to the first result if this machine cannot write checkpoints."""
        if self._checkpoints is None or self._checkpoints.are_possible:
            return []
        folder, self._checkpoints = self._checkpoints.sweep_folder, None
        return [f"{folder} is not there on {result.trial.host}: trials on it leave no checkpoints"]

    def _model_for(self, spec: TrialSpec) -> "LoadedModel | None":
        if not spec.workload.needs_weights:
            return None
        key = (spec.model, spec.dtype, spec.weights)
        if self._model is None or self._key != key:
            self._model = None  # free the old weights before loading the new
            try:
                self._model = self._load(spec.model, dtype=spec.dtype, weights=spec.weights)
            except Exception as error:  # noqa: BLE001 - whatever it is, trials of other models go on
                from kvcomm_core.models.devices import is_out_of_memory

                status: Status = "oom" if is_out_of_memory(error) else "error"
                raise ModelLoadError(storable(f"model {spec.model!r} cannot be loaded: {error}"), status) from None
            self._key = key
        return self._model


@dataclass(frozen=True, slots=True)
class News:
    """The last news of the replica in a slot."""

    start: int
    """Number of its process among those started in the slot."""
    heartbeat: int | None = None
    """Number of the last heartbeat; None before the first."""
    position: tuple[str, int, int | None] | None = None
    """Trial id, samples done, and the total if known; None until its model is loaded and its first trial begins."""


class Board:
    """The board where replicas post their progress. It is an actor of its own, because a busy replica cannot answer."""

    def __init__(self) -> None:
        self._news: dict[int, News] = {}

    def post(self, replica: int, start: int, trial_id: str, done: int, total: int | None) -> None:
        """Record that replica number ``replica`` has a trial's model and has finished ``done`` of ``total`` samples."""
        if known := self._known(replica, start):
            self._news[replica] = replace(known, position=(trial_id, done, total))

    def beat(self, replica: int, start: int, number: int) -> None:
        """Record heartbeat ``number`` of a living replica."""
        if known := self._known(replica, start):
            self._news[replica] = replace(known, heartbeat=number)

    def read(self) -> dict[int, News]:
        """Return the news of each replica."""
        return dict(self._news)

    def _known(self, replica: int, start: int) -> News | None:
        """Return the news of this process; None if it has been replaced and this is a late message."""
        known = self._news.get(replica)
        if known is None or known.start < start:
            return News(start)
        return known if known.start == start else None
