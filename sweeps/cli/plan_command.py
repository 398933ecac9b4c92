"""``kvcomm plan``."""

import os
from dataclasses import asdict
from functools import partial
from typing import Annotated, NoReturn

import typer

from sweeps.cli.options import DEFAULT_RESULTS, Json, Limit, Location, Overrides, Profile, SweepFile, fetched
from sweeps.cli.output import make_console, one_line_errors, print_json
from sweeps.cli.sweep_files import AllFiles, one_or_all, plan_of, read_sweep
from sweeps.plan.memory import check_memory
from sweeps.plan.paper_files import overview, print_overview
from sweeps.plan.plan_view import plan_document, print_plan
from sweeps.plan.planning import make_plan
from sweeps.plan.rates import read_rates
from sweeps.plan.topology_view import print_topologies


def plan(
    sweep: SweepFile = None,
    location: Location = str(DEFAULT_RESULTS),
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    limit: Limit = None,
    profile: Profile = None,
    all_files: AllFiles = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time the models here if the results hold no trial of them.")
    ] = False,
    topology: Annotated[bool, typer.Option("--topology", help="Only draw who reads whom; needs no data.")] = False,
    as_json: Json = False,
) -> None:
    """Show what `run` would do, and estimate its cost from earlier trials of the model in the results.

    Exit with 2 if a trial surely needs more memory than this machine has free, unless RAY_ADDRESS names a cluster.
    """
    path = one_or_all(sweep, all_files)
    if path is None:
        _plan_all(location, overrides, limit, profile, calibrate, as_json)
    spec = read_sweep(path, overrides, limit, profile)
    if topology and not as_json:
        print_topologies(spec, make_console())
        return
    results = fetched(location, spec.name, *spec.take_from)
    todo = plan_of(path, spec, results, lenient=True, calibrate=calibrate)
    if as_json:
        print_json(plan_document(todo, results))
    else:
        print_plan(todo, make_console())
    if "RAY_ADDRESS" not in os.environ:  # another machine may have the memory
        with one_line_errors():
            check_memory(todo.pending, todo.memory, todo.device)


def _plan_all(
    location: str, overrides: list[str], limit: int | None, profile: str | None, calibrate: bool, as_json: bool
) -> NoReturn:
    """Print a line for each of the paper's files."""
    results = fetched(location)
    with one_line_errors():
        known = read_rates(results)
        plan_one = partial(make_plan, results=results, lenient=True, known=known, calibrate=calibrate)
        lines = list(overview(plan_one, profile, overrides, limit))
    if as_json:
        print_json({"results": str(results), "files": [asdict(line) for line in lines]})
    else:
        print_overview(lines, make_console())
    raise typer.Exit(2 if any(line.error for line in lines) else 0)
