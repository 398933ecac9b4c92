"""``kvcomm list``: what a sweep file can name."""

import ast
import dataclasses
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from harness.extensions import UnknownNameError, announced
from harness.methods import BUILT_IN, GROUP, find_method
from harness.workloads import built_in
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.model_source import RANDOM_SHAPES
from kvcomm_core.models.named_models import NAMED_MODELS
from sweeps.cli.options import Json
from sweeps.cli.output import make_console, print_json
from sweeps.cli.shipped import shipped_sweeps
from sweeps.wording import say


class Kind(StrEnum):
    """The kinds of names that can be listed."""

    methods = "methods"
    workloads = "workloads"
    models = "models"
    sweeps = "sweeps"
    fields = "fields"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A name with what it stands for."""

    name: str
    text: str


def list_names(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; without it, all but the fields.")] = None,
    as_json: Json = False,
) -> None:
    """List what a sweep file can name: methods, workloads, models, the sweeps that kvcomm brings, and all fields."""
    kinds = [kind] if kind else [one for one in Kind if one is not Kind.fields]
    found = {one.value: list(_LISTS[one]()) for one in kinds}
    if as_json:
        print_json({name: [dataclasses.asdict(entry) for entry in entries] for name, entries in found.items()})
        return
    console = make_console()
    for index, (name, entries) in enumerate(found.items()):
        if len(found) > 1:
            say(console, *([""] if index else []), name)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(overflow="fold", max_width=34)
        table.add_column(overflow="fold", ratio=1)
        for entry in entries:
            table.add_row(entry.name, entry.text)
        console.print(table)


def _methods() -> Iterator[Entry]:
    for name, path in {**BUILT_IN, **announced(GROUP)}.items():
        try:
            record = find_method(name)
        except UnknownNameError as error:
            yield Entry(name, f"{path}: {error}")
            continue
        fields = [field.name for field in dataclasses.fields(record)]
        file = _file_of(record.builds.partition(":")[0])
        text = _explained(name, [_docstring(file) if file else None, record.__doc__])
        yield Entry(name, f"{text} Parameters: {', '.join(fields)}." if fields else text)
    yield Entry("module:Class", "A method of yours; `kvcomm new method DIR` begins one.")


def _file_of(module: str) -> Path | None:
    """Return a module's file without importing it, as it may need torch."""
    files = (Path(folder, *module.split(".")).with_suffix(".py") for folder in sys.path)
    return next((file for file in files if module and file.is_file()), None)


def _workloads() -> Iterator[Entry]:
    for name, record in built_in().items():
        yield Entry(name, _explained(name, [inspect.getdoc(inspect.getmodule(record)), record.__doc__]))
    for name, path in announced("workloads").items():
        yield Entry(name, path)
    yield Entry("module:Class", "A workload of yours.")


def _models() -> Iterator[Entry]:
    for name, model in NAMED_MODELS.items():
        try:
            yield Entry(name, f"{model.title}, here: {model.find()}")
        except ModelError as error:
            yield Entry(name, f"{model.title}, not here: {error}")
    for shape in RANDOM_SHAPES:
        yield Entry(f"random:{shape}", "The shape of this model with random weights, for timings.")
    yield Entry("ORG/NAME[@REVISION]", "A model of the Hugging Face Hub; `kvcomm doctor` lists those that are here.")
    yield Entry("FOLDER, FILE.gguf", "A model on this machine.")


def _sweeps() -> Iterator[Entry]:
    for name, file in shipped_sweeps().items():
        lines = file.read_text(encoding="utf-8").splitlines()
        comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
        yield Entry(name, _sentence("\n".join(line.removeprefix("#").strip() for line in comment)))


def _fields() -> Iterator[Entry]:
    from sweeps.language.field_docs import FieldDoc, dotted_fields, settings, trial_fields

    def entry(name: str, field: FieldDoc, owner: str) -> Entry:
        default = "" if field.default is dataclasses.MISSING else f" Default: {_spelled(field.default)}."
        return Entry(name, f"{owner}{field.text}{default}")

    for field in (*settings(), *trial_fields()):
        yield entry(field.name, field, "")
    for name, owner, field in dotted_fields():
        yield entry(name, field, f"{owner.capitalize()}. ")


def _spelled(value: object) -> str:
    if value is None:
        return "null"
    return (
        str(value).lower() if isinstance(value, bool) else str(list(value)) if isinstance(value, tuple) else str(value)
    )


def _explained(name: str, docstrings: Iterable[str | None]) -> str:
    """Return the first sentence of the docstring that begins with the name, else that of the last one."""
    texts = [text for text in docstrings if text]
    text = next((text for text in texts if text.replace("``", "").startswith(f"{name}:")), texts[-1] if texts else "")
    said = _sentence(text.replace("``", "").removeprefix(f"{name}:"))
    return said[:1].upper() + said[1:]


def _docstring(file: Path) -> str | None:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def _sentence(text: str) -> str:
    """Return the first sentence, in one line."""
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(text.split("\n\n")[0].split()))[0]


_LISTS: dict[Kind, Callable[[], Iterator[Entry]]] = {
    Kind.methods: _methods,
    Kind.workloads: _workloads,
    Kind.models: _models,
    Kind.sweeps: _sweeps,
    Kind.fields: _fields,
}
