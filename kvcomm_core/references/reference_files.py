"""References in files: one dense turn serves every method, trial and process that asks for its prompt.

The folder is a cache. Whatever in it is missing, damaged or of another model is taken anew, so it may be deleted at any
time. The files used longest ago go first.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kvcomm_core.decode import Answer, StopReason
from kvcomm_core.fidelity import CONTINUATION_TOKENS
from kvcomm_core.files.atomic_write import replacing
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.references.reference import Reference, take_references
from kvcomm_core.template import Prompt

LARGEST = 8 * 2**30
"""Bytes that the files may take together. One of 32 positions and 50,000 tokens of vocabulary takes 6.5 MB."""

_VERSION = 1
"""Raise it when a dense turn on the same prompt gives another reference."""


class ReferenceFiles:
    """The references of one model, in a folder that other models share."""

    def __init__(self, model: LoadedModel, folder: Path, *, largest: int = LARGEST) -> None:
        """A model without a digest of its weights has no files: its references are taken each time."""
        self._model, self._folder, self._largest = model, folder, largest
        identity = model.identity
        self._is_kept = identity.weights_digest is not None
        digests = [identity.weights_digest, identity.config_digest, identity.quantisation]
        self._key = [_VERSION, *digests, sorted(model.eos_ids), str(model.dtype), model.device.type]

    def of(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Reference]:
        """Return the references on prompts. Those without a file are taken as one batch, and get one."""
        paths = [self._path(prompt, max_new_tokens) for prompt in prompts]
        found = [_read(path) if self._is_kept else None for path in paths]
        missing = [index for index, reference in enumerate(found) if reference is None]
        taken = take_references(self._model, [prompts[index] for index in missing], max_new_tokens)
        for index, reference in zip(missing, taken, strict=True):
            found[index] = reference
            if self._is_kept:
                self._write(paths[index], reference)
        if missing and self._is_kept:
            self._make_room()
        return [reference for reference in found if reference is not None]

    def _path(self, prompt: Prompt, max_new_tokens: int) -> Path:
        key = json.dumps([*self._key, max_new_tokens, CONTINUATION_TOKENS, list(prompt.token_ids)])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"

    def _write(self, path: Path, reference: Reference) -> None:
        """Write a file; where none can be written, the reference is taken anew next time."""
        tensors = {
            "answer": torch.tensor(reference.answer.token_ids, dtype=torch.int64),
            "first": reference.first_V.contiguous().cpu(),
            "logits": reference.logits_NV.contiguous().cpu(),
        }
        with suppress(OSError), replacing(path, self._folder / "unfinished", synced=False) as new:
            save_file(tensors, new, metadata={"stop_reason": reference.answer.stop_reason})

    def _make_room(self) -> None:
        """Remove the files used longest ago until the others fit. Another process may be doing the same."""
        with suppress(OSError):
            files = sorted(
                ((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.glob("*.safetensors")),
                reverse=True,
            )
            total = 0
            for _, size, path in files:
                total += size
                if total > self._largest:
                    path.unlink(missing_ok=True)


def _read(path: Path) -> Reference | None:
    """Return the reference in a file; None if there is none that is whole."""
    try:
        with safe_open(path, framework="pt") as file:
            stop_reason: StopReason = "eos" if file.metadata()["stop_reason"] == "eos" else "length"
            answer_ids, first_V, logits_NV = (file.get_tensor(name) for name in ("answer", "first", "logits"))
        path.touch()
    except (OSError, SafetensorError, KeyError, TypeError):
        return None
    return Reference(Answer(tuple(answer_ids.tolist()), stop_reason), first_V, logits_NV)
