"""The sweep files of a command: one file, one that we ship, by its name, or all of the paper's."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kvcomm_core.models.model_config import ModelError
from sweeps.cli.output import fail, note, one_line_errors
from sweeps.cli.shipped import shipped_sweeps
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec, load_sweep
from sweeps.plan.planning import Plan, make_plan

AllFiles = Annotated[bool, typer.Option("--all", help="Take every table and figure of the paper, not SWEEP.")]


def found_sweep(given: Path) -> Path:
    """Return the file that is meant: the given one if it exists, else the shipped one of that name.

    Ends the command if there is neither, but something of a similar name.
    """
    shipped = shipped_sweeps()
    if given.is_file() or (given.exists() and given.name not in shipped):
        return given
    if str(given) in shipped:
        return shipped[str(given)]
    close = difflib.get_close_matches(given.stem, shipped, n=1)
    if close and not given.exists():
        fail(f"{given}: no such file; did you mean {close[0]}, a sweep that kvcomm brings? kvcomm list sweeps has all")
    return given


def one_or_all(sweep: Path | None, all_files: bool) -> Path | None:
    """Return the sweep file, or None for all of the paper's."""
    if (sweep is None) != all_files:
        given = "neither SWEEP nor --all is" if sweep is None else "SWEEP and --all are both"
        fail(f"{given} given; allowed: one of them")
    return None if sweep is None else found_sweep(sweep)


def read_sweep(sweep: Path, overrides: Sequence[str], limit: int | None, profile: str | None) -> SweepSpec:
    """Read the sweep in a file, and say which of its entries have no effect. An invalid file ends the command."""
    with one_line_errors():
        spec = load_sweep(sweep, overrides, limit, profile)
    for hint in spec.hints:
        note(f"{sweep}: {hint}")
    return spec


def plan_of(path: Path, sweep: SweepSpec, results: Path, *, lenient: bool = False, calibrate: bool = False) -> Plan:
    """Plan a sweep. If this fails, the command ends."""
    with one_line_errors():
        try:
            return make_plan(sweep, results, lenient=lenient, calibrate=calibrate)
        except (SweepError, ModelError) as error:
            raise SweepError(f"{path}: {error}") from None
