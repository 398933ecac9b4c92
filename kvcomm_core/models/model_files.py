"""The files of a model in a folder: checking that they are whole, and reading what they hold. Loads no torch."""

import hashlib
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kvcomm_core.config import one_line, shown
from kvcomm_core.files.strict_json import read_object
from kvcomm_core.models.model_config import ModelError, check_end_tokens

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CHAT_TEMPLATE = "chat_template.jinja"
OTHER_JSON = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
"""Files that transformers reads, if present, besides config.json and the weights."""

_BLOB = re.compile(r"[0-9a-f]{64}")


def cache_folder(name: str) -> Path:
    """Return the folder of that name in our cache, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvcomm" / name


def converted_folder(name: str, sha256: str) -> Path:
    """Return the folder in the cache where a GGUF file of that name and SHA-256 is, or will be, converted."""
    return cache_folder("models") / f"{name}-{sha256[:12]}"


def check_small_files(folder: Path, vocabulary: int | None) -> None:
    """Raise ``ModelError`` or ``JsonError`` if a file other than the weights is damaged.

    ``vocabulary`` comes from config.json; None if it states none.
    """
    for name in OTHER_JSON:
        if (path := folder / name).is_file():
            value = read_object(path)
            if name == "generation_config.json":
                check_end_tokens(str(path), value.get("eos_token_id"), vocabulary)
    if (path := folder / CHAT_TEMPLATE).is_file():
        try:
            path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: {error}; allowed: UTF-8 text") from None


def has_chat_template(folder: Path) -> bool:
    """Return whether the tokenizer of a folder has a chat template."""
    if any((folder / name).exists() for name in (CHAT_TEMPLATE, "chat_template.json", "additional_chat_templates")):
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(read_object(path).get("chat_template"))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files that transformers would load, each whole, with all tensors that their index names.

    Raise ``ModelError`` or ``JsonError`` if that is not so.
    """
    if (whole := folder / WEIGHTS).is_file():
        _tensor_names(whole)
        return (whole,)
    index = folder / INDEX
    if not index.is_file():
        raise ModelError(f"{folder}: no weights; allowed: {WEIGHTS} or {INDEX} with its files")
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(
            f"{index}: weight_map is {shown(names)}; allowed: an object that names the file of each tensor"
        )
    wanted: dict[str, set[str]] = {}
    for tensor, file in names.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelError(f"{index}: the file of {shown(tensor)} is {shown(file)}; allowed: a file of this folder")
        wanted.setdefault(file, set()).add(tensor)
    for file, tensors in sorted(wanted.items()):
        path = folder / file
        if not path.is_file():
            raise ModelError(f"{path}: no such file, but {INDEX} names it")
        for tensor in sorted(tensors - _tensor_names(path)):
            raise ModelError(f"{path}: tensor {shown(tensor)} is missing, but {INDEX} names it")
    return tuple(folder / file for file in sorted(wanted))


def digest_of(files: Iterable[Path]) -> str:
    """Return a digest of the content: the SHA-256 of a single file, or of what ``sha256sum`` prints for several files.

    For several files that is one line each, in the order of their names.
    """
    paths = sorted(files, key=lambda path: path.name)
    hashes = sha256_of_all(paths)
    if len(paths) == 1:
        return hashes[0]
    lines = "".join(f"{sha256}  {path.name}\n" for sha256, path in zip(hashes, paths, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256_of_all(paths: list[Path]) -> list[str]:
    """Return the SHA-256 of each file, computed for several at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(sha256_of, paths))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal. In the Hub's cache it is the name of a large file."""
    if path.is_symlink() and (blob := path.resolve()).parent.name == "blobs" and _BLOB.fullmatch(blob.name):
        return blob.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensor_names(path: Path) -> set[str]:
    """Return the tensor names of one safetensors file. Raise ``ModelError`` unless its header and its length agree."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return set(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        reason = one_line(error)
        raise ModelError(f"{path}: not a whole safetensors file ({reason[:200]})") from None
