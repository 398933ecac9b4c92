"""How commands answer: a console, one JSON document, or one line about what is wrong."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from harness.redaction import redact
from harness.store import StoreError
from kvcomm_core.model_source import ModelError
from sweeps.mlflow_sync import TrackingError
from sweeps.submit import JobError
from sweeps.sweep_file import SweepError


def make_console() -> Console:
    """Stdout. Where it is no terminal, lines are as long as they need to be."""
    console = Console()
    return console if console.is_terminal else Console(width=1000)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input is one line on stderr and exit code 2."""
    try:
        yield
    except (SweepError, StoreError, ModelError, TrackingError, JobError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """One line on stderr, without passwords, and exit code 2."""
    print(f"kvcomm: {redact(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(2)


def print_json(document: object) -> None:
    """One JSON document, and nothing else."""
    print(json.dumps(document, indent=2, allow_nan=False, default=_as_json))  # noqa: T201


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
