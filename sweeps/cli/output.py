"""The output of commands: a console, one JSON document, or one line about an error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from harness.redaction import redact
from harness.results.parquet_files import StoreError
from harness.text import displayed
from kvcomm_core.models.model_config import ModelError
from sweeps.language.strict_yaml import SweepError
from sweeps.submit import JobError
from sweeps.tracking.mlflow_process import TrackingError


class PlainConsole(Console):
    """Prints all text through ``harness.text.displayed``: markup, emoji codes and escape sequences appear as text,
    without effect. Only renderables set styles."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape the text before rich measures it, so that columns fit."""
        return super().render_str(displayed(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Escape everything else that reaches the screen, except rich's own cursor movements."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=displayed(segment.text))


def make_console() -> Console:
    """Return a console on stdout, with unlimited line length unless stdout is a terminal.

    A character that stdout's encoding lacks is escaped, instead of ending the command with an error.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = PlainConsole()
    return console if console.is_terminal else PlainConsole(width=1000)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of bad input into one line on stderr and exit code 2."""
    try:
        yield
    except (SweepError, StoreError, ModelError, TrackingError, JobError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print one line on stderr, without passwords, and exit with code 2."""
    print(displayed(f"kvcomm: {redact(' '.join(message.split()))}"), file=sys.stderr)  # noqa: T201
    raise typer.Exit(2)


def note(message: str) -> None:
    """Print a hint as one line on stderr. The command goes on."""
    print(displayed(f"kvcomm: note: {redact(' '.join(message.split()))}"), file=sys.stderr)  # noqa: T201


def print_json(document: object) -> None:
    """Print one JSON document and nothing else."""
    print(json.dumps(document, indent=2, allow_nan=False, default=_as_json))  # noqa: T201


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
