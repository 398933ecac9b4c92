"""The sweep files of a command: one file, or all of the paper's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kvcomm_core.models.model_config import ModelError
from sweeps.cli.output import fail, one_line_errors
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec, load_sweep
from sweeps.plan.planning import Plan, make_plan

AllFiles = Annotated[bool, typer.Option("--all", help="Take every table and figure of the paper, not SWEEP.")]


def one_or_all(sweep: Path | None, all_files: bool) -> Path | None:
    """Return the sweep file, or None for all of the paper's."""
    if (sweep is None) != all_files:
        given = "neither SWEEP nor --all is" if sweep is None else "SWEEP and --all are both"
        fail(f"{given} given; allowed: one of them")
    return sweep


def read_sweep(sweep: Path, overrides: Sequence[str], limit: int | None, profile: str | None) -> SweepSpec:
    """Read the sweep in a file. An invalid file ends the command."""
    with one_line_errors():
        return load_sweep(sweep, overrides, limit, profile)


def plan_of(path: Path, sweep: SweepSpec, results: Path, *, lenient: bool = False, calibrate: bool = False) -> Plan:
    """Plan a sweep. If this fails, the command ends."""
    with one_line_errors():
        try:
            return make_plan(sweep, results, lenient=lenient, calibrate=calibrate)
        except (SweepError, ModelError) as error:
            raise SweepError(f"{path}: {error}") from None
