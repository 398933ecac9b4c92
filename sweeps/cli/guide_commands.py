"""``kvcomm schema`` and ``kvcomm new``: what helps to write a sweep file, and to begin."""

import re
import textwrap
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import sweeps
from sweeps.cli.options import Json
from sweeps.cli.output import fail, make_console, one_line_errors, print_json
from sweeps.wording import say

TEMPLATES = Path(sweeps.__file__).parent / "templates"
"""A folder for each thing that can be begun. ``DIR`` in its files becomes the new folder, and ``NAME`` its name."""


class New(StrEnum):
    """The kinds of files that can be begun."""

    sweep = "sweep"
    team = "team"
    method = "method"


NEXT = {
    New.sweep: ("kvcomm plan {folder}/sweep.yaml", "kvcomm run {folder}/sweep.yaml --limit 2"),
    New.team: ("kvcomm plan {folder}/sweep.yaml --topology", "kvcomm run {folder}/sweep.yaml --limit 2"),
    New.method: ("kvcomm plan {folder}/sweep.yaml", "kvcomm run {folder}/sweep.yaml --in-process"),
}
"""The commands that one would type next."""

_INDENT = 6 * " "


def schema(
    sweep: Annotated[
        Path | None, typer.Argument(metavar="SWEEP", help="Add the fields of the plug-ins that this sweep file names.")
    ] = None,
    columns: Annotated[
        bool, typer.Option("--columns", help="Print instead what every column of the results means.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a JSON Schema of sweep files, with which editors complete, explain and check them."""
    if columns:
        _print_columns(as_json)
        return
    from sweeps.language.fields import import_plug_ins
    from sweeps.language.schema import sweep_schema
    from sweeps.language.strict_yaml import SweepError, read_sweep_file
    from sweeps.language.sweep_spec import make_importable

    if sweep is not None:
        with one_line_errors():
            try:
                make_importable(sweep)
                import_plug_ins(dict(read_sweep_file(sweep)))
            except SweepError as error:
                raise SweepError(f"{sweep}: {error}") from None
    print_json(sweep_schema())


def _print_columns(as_json: bool) -> None:
    """Print the data dictionary, table by table."""
    from sweeps.language.column_docs import columns

    described = list(columns())
    if as_json:
        print_json({"columns": [column.to_dict() for column in described]})
        return
    console = make_console()
    for table in dict.fromkeys(column.table for column in described):
        say(console, table)
        for column in (column for column in described if column.table == table):
            unit = f", {column.unit}" if column.unit else ""
            say(console, f"  {column.name} ({column.type}{unit})")
            null = f" Null {column.null_when}." if column.null_when else ""
            text = f"{column.meaning}{null}"
            say(console, *textwrap.wrap(text, console.width - 1, initial_indent=_INDENT, subsequent_indent=_INDENT))
        say(console, "")


def new(
    kind: Annotated[New, typer.Argument(help="What to begin.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to. It may exist, its files not.")],
) -> None:
    """Write the files with which a sweep, a team or a method begins, and say what to type next."""
    name = folder.resolve().name
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,50}", name) is None:
        fail(f"DIR is {folder}, whose name is {name!r}; allowed: letters, digits and '_', a letter first, up to 51")
    texts = {
        folder / file.name.removesuffix(".txt").replace("NAME", name): filled(file, name, folder)
        for file in sorted((TEMPLATES / kind).iterdir())
        if file.is_file()
    }
    for path in texts:
        if path.exists():
            fail(f"{path} exists; allowed: a folder without it, since nothing is overwritten")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{error.filename or folder} cannot be written: {error.strerror or error}")
    console = make_console()
    say(console, *(str(path) for path in texts), "")
    say(console, *(f"next: {line.format(folder=folder)}" for line in NEXT[kind]))


def filled(template: Path, name: str, folder: Path) -> str:
    """Return the text of a template."""
    return template.read_text(encoding="utf-8").replace("NAME", name).replace("DIR", str(folder))
