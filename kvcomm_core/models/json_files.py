"""Reader for JSON files that others wrote. It returns an object, or raises one line that says what is wrong."""

from pathlib import Path
from typing import Any

from kvcomm_core.json_documents import parse_json

MAX_BYTES = 64 << 20
"""Size limit in bytes; real tokenizer files take up to some 20 MB."""


class JsonError(ValueError):
    """A file holds no JSON object; the message is one line that names the file."""


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file. Raise ``JsonError``, also for NaN, infinities and numbers of thousands of
    digits."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise JsonError(f"{path}: {size} bytes; allowed: at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise JsonError(f"{path}: {error.strerror or error}") from None
    return parse_object(content, str(path))


def parse_object(content: bytes, where: str) -> dict[str, Any]:
    """Parse the JSON object in ``content``; ``where`` names it in errors. Raise ``JsonError``."""
    try:
        value = parse_json(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise JsonError(f"{where}: not UTF-8 text (byte {error.start}); allowed: a JSON object") from None
    except ValueError as error:  # a JSONDecodeError, or a number that Python refuses to read
        raise JsonError(f"{where}: not valid JSON ({str(error).splitlines()[0]}); allowed: a JSON object") from None
    if not isinstance(value, dict):
        raise JsonError(f"{where}: holds a {type(value).__name__}; allowed: a JSON object")
    return value
