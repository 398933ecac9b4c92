"""How commands answer: a console, one JSON document, or one line about what is wrong."""

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
from kvcomm_core.models.model_source import ModelError
from sweeps.language.strict_yaml import SweepError
from sweeps.submit import JobError
from sweeps.tracking.mlflow_sync import TrackingError


class PlainConsole(Console):
    """Prints text as ``harness.text.displayed`` has it, whoever wrote it: its markup, emoji codes and escape sequences
    are shown, and do nothing. Styles come from renderables alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escaped before it is measured, so that columns fit."""
        return super().render_str(displayed(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Whatever else reaches the screen, but for what rich itself moves the cursor with."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=displayed(segment.text))


def make_console() -> Console:
    """Stdout. Where it is no terminal, lines are as long as they need to be.

    A character that stdout's encoding lacks is its escape, rather than an error that ends the command.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = PlainConsole()
    return console if console.is_terminal else PlainConsole(width=1000)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Bad input is one line on stderr and exit code 2."""
    try:
        yield
    except (SweepError, StoreError, ModelError, TrackingError, JobError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """One line on stderr, without passwords, and exit code 2."""
    print(displayed(f"kvcomm: {redact(' '.join(message.split()))}"), file=sys.stderr)  # noqa: T201
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
