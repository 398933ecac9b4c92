"""Tensors in the safetensors files of one folder, each tensor written once.

Since anchors are immutable, a checkpoint mostly repeats the one before it. It therefore adds one file with the new
tensors and refers to earlier files for the rest. The caller deletes files that nothing refers to any more. Once less
than half of the files' content is in use, everything is written anew.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kvcomm_core.config import shown
from kvcomm_core.files.atomic_write import replacing
from kvcomm_core.files.regular_files import open_regular

Place = tuple[str, str]
"""Place of a tensor: the file's name, and the tensor's name in it."""


class TensorFiles:
    """The index of tensors in the files of ``folder``. Tensors are recognised by identity and must not be written
    to."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """``scratch`` is a folder on the same file system, for files that are not whole yet."""
        self._folder, self._scratch = folder, scratch
        self._places: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._digests: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def write(self, tensors: Sequence[Tensor], name: str) -> tuple[list[Place], dict[str, str]]:
        """Write the new tensors to a file called ``name``. Return where each tensor lies, and the SHA-256 of each file
        in use.

        When this returns, the files survive a crash of the machine. Raise ``OSError`` or ``SafetensorError``.
        """
        live = sum(tensor.nbytes for tensor in tensors)
        new = [tensor for tensor in tensors if tensor not in self._places]
        if sum(self._sizes.values()) + sum(tensor.nbytes for tensor in new) > 2 * live:
            new = list(tensors)
        if new:
            self._put(new, self._folder / name)
        places = [self._places[tensor] for tensor in tensors]
        used = {file for file, _ in places}
        self._digests = {file: digest for file, digest in self._digests.items() if file in used}
        self._sizes = {file: size for file, size in self._sizes.items() if file in used}
        return places, self._digests

    def read(self, places: Sequence[Place], digests: dict[str, str]) -> list[Tensor]:
        """Return the tensors that ``write`` put there, on the CPU, in memory of their own.

        Raise ``OSError`` or ``SafetensorError`` if a file cannot be read, ``ValueError`` if one has changed.
        """
        found: dict[Place, Tensor] = {}
        for file, digest in digests.items():
            path = self._folder / file
            if path.name != file:
                raise ValueError(f"a tensor file is called {shown(file)}; allowed: the name of a file in the folder")
            if _sha256(path) != digest:
                raise ValueError(f"{file} is not as it was written")
            self._sizes[file] = path.stat().st_size
            with safe_open(path, framework="pt") as opened:
                for _, name in {place for place in places if place[0] == file}:
                    # Copy the tensors out of the mapped file, so that no timed turn waits for the disk.
                    found[file, name] = opened.get_tensor(name).clone()
        tensors = [found[file, name] for file, name in places]
        for place, tensor in zip(places, tensors, strict=True):
            self._places[tensor] = place
        self._digests = dict(digests)
        return tensors

    def _put(self, tensors: Sequence[Tensor], path: Path) -> None:
        with replacing(path, self._scratch) as new:
            save_file({str(number): tensor.contiguous() for number, tensor in enumerate(tensors)}, new)
        self._digests[path.name] = _sha256(path)
        self._sizes[path.name] = path.stat().st_size
        for number, tensor in enumerate(tensors):
            self._places[tensor] = (path.name, str(number))


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
