"""Checkpoints, from which a restarted trial continues where an earlier attempt stopped.

``RESULTS/<sweep>/checkpoints/<trial_id>/<shard>/`` holds, for each shard of a trial in progress,

    state.jsonl                     two lines of JSON: the trial, and its records, position and method's state
    <attempt>-<samples>.safetensors the tensors of that state, in one file or several

``state.jsonl`` is put in place last; files that it does not name are ignored. It holds the SHA-256
of its own second line and of each tensor file. A checkpoint that is damaged, or belongs to another trial, is moved to
``RESULTS/<sweep>/damaged/checkpoints/``; the trial then starts over and reports it.

The module itself loads no torch, because the controller also uses it, to say where checkpoints lie and to remove them.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.identity import IDENTITY_VERSION
from harness.results.arrow_schemas import RECORDS, RecordTable, columns_of
from harness.results.measurements import FidelityRecord
from harness.results.parquet_files import SCRATCH
from harness.results.trial_result import SampleRecord, TurnRecord
from kvcomm_core.config import one_line, shown
from kvcomm_core.files.atomic_write import move_aside, replacing
from kvcomm_core.files.regular_files import open_regular
from kvcomm_core.files.strict_json import parse_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 4
"""Version of the files. Raise it when they have to be read differently."""

_FOLDER = "checkpoints"
_STATE = "state.jsonl"
_TABLES: tuple[RecordTable, ...] = ("turns", "samples", "fidelity")
_MAX_HEADER = 100_000
"""Maximum length of the first line, in bytes."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The place of a sweep's checkpoints, and how often its trials write one."""

    sweep_folder: Path
    """``RESULTS/<sweep>``, absolute."""
    seconds: float
    """Minimum time between two checkpoints of a trial. Above 0."""

    @property
    def are_possible(self) -> bool:
        """Whether the folder exists. It does not on a node that lacks the results' shared file system."""
        return self.sweep_folder.is_dir()

    def of(self, trial_id: str, shard: int, model: Mapping[str, str | None]) -> "Checkpoint":
        """Return the checkpoint of one shard of a trial. ``model`` says what the model is, field by field; anchors and
        answers of another one are of no use."""
        return Checkpoint(self, trial_id, shard, model)


def remove_checkpoint(sweep_folder: Path, trial_id: str) -> None:
    """Remove the checkpoints of a trial whose result is safe on disk. Any that cannot be removed stay and are
    harmless, because a finished trial is not started again."""
    shutil.rmtree(sweep_folder / _FOLDER / trial_id, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class TrialState:
    """The state of a trial on questions between two batches."""

    turns: list[TurnRecord]
    samples: list[SampleRecord]
    """Samples of all finished items, which are the first ones."""
    fidelity: list[FidelityRecord]
    method_state: dict[str, Any] = field(default_factory=dict)
    """State of the method, as its ``describe_state`` gives it; empty for a method without state."""
    tensors: "Sequence[Tensor]" = field(default=())
    """Tensors to which ``method_state`` refers."""


class Checkpoint:
    """The checkpoint of one shard of a trial, read once when the trial begins and written from time to time."""

    def __init__(self, place: Checkpoints, trial_id: str, shard: int, model: Mapping[str, str | None]) -> None:
        from harness.results.tensor_files import TensorFiles  # needs torch

        self.messages: list[str] = []
        """Messages to the user, one line each."""
        self._place, self._trial_id = place, trial_id
        self._folder = place.sweep_folder / _FOLDER / trial_id / str(shard)
        self._name = f"{trial_id}-{shard}"
        self._identity = {
            "format": FORMAT,
            "identity_version": IDENTITY_VERSION,
            "trial": self._name,
            **model,
        }
        self._scratch = place.sweep_folder / SCRATCH
        self._tensor_files = TensorFiles(self._folder, self._scratch)
        self._last = time.monotonic()
        self._usable = True
        self._has_failed = False

    def load(self) -> TrialState | None:
        """Return the state that an earlier attempt left; None if there is nothing, or nothing usable."""
        from safetensors import SafetensorError

        if not os.path.lexists(self._folder / _STATE):  # at most an attempt that was killed while it wrote its first
            return None
        try:
            return self._read()
        # From LookupError on: errors raised by the code that unpacks a body of another shape.
        except (OSError, ValueError, SafetensorError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.set_aside(_one_line(error))
        return None

    def is_due(self) -> bool:
        """Return whether the next checkpoint is due."""
        return self._usable and time.monotonic() - self._last >= self._place.seconds

    def save(self, state: TrialState, attempt: int) -> None:
        """Replace the checkpoint. If that fails, the earlier one stays and the trial continues."""
        from safetensors import SafetensorError

        if not self._usable:
            return
        try:
            self._write(state, attempt)
        except (OSError, SafetensorError) as error:
            if not self._has_failed:  # once is enough
                reason = _one_line(error)
                self.messages.append(f"checkpoint {self._folder} cannot be written: {reason}; the trial goes on")
            self._has_failed = True
        self._last = time.monotonic()

    def set_aside(self, reason: str) -> None:
        """Move the checkpoint to a place where no trial looks for one."""
        target = self._place.sweep_folder / "damaged" / _FOLDER / self._name
        try:
            target = move_aside(self._folder, target)
        except OSError as error:
            self._usable = False
            where, how = f"cannot be moved to {target}: {error.strerror}", "anew, without checkpoints"
        else:
            where, how = f"moved to {target}", "anew"
        self.messages.append(f"checkpoint {self._folder}: {reason}; {where}; trial {self._trial_id} begins {how}")

    def _read(self) -> TrialState:
        with open_regular(self._folder / _STATE) as file:
            header_line, body_line = file.readline(_MAX_HEADER), file.read()
        header = parse_json(header_line.decode())
        if not isinstance(header, dict):
            raise ValueError(f"the first line of {_STATE} is {shown(header)}; allowed: a JSON object")
        for name, value in self._identity.items():
            if header.get(name) != value:
                raise ValueError(f"{name} is {shown(header.get(name))}; allowed: {value!r}")
        if hashlib.sha256(body_line).hexdigest() != header.get("sha256"):
            raise ValueError(f"{_STATE} is not as it was written")
        body = json.loads(body_line)
        places = [(file, name) for file, name in body["tensors"]]
        return TrialState(
            **{table: _records(RECORDS[table], body[table]) for table in _TABLES},
            method_state=body["method_state"],
            tensors=self._tensor_files.read(places, body["files"]),
        )

    def _write(self, state: TrialState, attempt: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{attempt}-{len(state.samples)}.safetensors"
        places, files = self._tensor_files.write(state.tensors, name)
        body: dict[str, Any] = {
            **{table: columns_of(RECORDS[table], getattr(state, table)) for table in _TABLES},
            "method_state": state.method_state,
            "tensors": places,
            "files": files,
        }
        body_line = json.dumps(body).encode()
        header = {**self._identity, "sha256": hashlib.sha256(body_line).hexdigest()}
        with replacing(self._folder / _STATE, self._scratch) as new:
            new.write_bytes(json.dumps(header).encode() + b"\n" + body_line)
        for path in self._folder.glob("*.safetensors"):
            if path.name not in files:
                path.unlink(missing_ok=True)


def _one_line(error: Exception) -> str:
    return one_line(error) or type(error).__name__


def _records(record: type, columns: dict[str, list[object]]) -> list[Any]:
    names = tuple(columns)
    return [record(**dict(zip(names, values, strict=True))) for values in zip(*columns.values(), strict=True)]
