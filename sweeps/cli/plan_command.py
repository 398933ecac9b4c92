"""``kvcomm plan``."""

import math
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sweeps.cli.options import DEFAULT_RESULTS, Json, Limit, Location, Overrides, Profile, SweepFile, fetched
from sweeps.cli.output import fail, make_console, one_line_errors, print_json
from sweeps.cli.sweep_files import AllFiles, one_or_all, plan_of, read_sweep
from sweeps.plan.memory import check_memory
from sweeps.plan.paper_files import overview, print_overview
from sweeps.plan.plan_view import plan_document, print_plan
from sweeps.plan.planning import make_plan
from sweeps.plan.rates import read_rates
from sweeps.plan.topology_view import print_topologies
from sweeps.run.ray_address import named_cluster
from sweeps.wording import say

if TYPE_CHECKING:
    from sweeps.plan.items_needed import NeededItems


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
    margin: Annotated[
        float | None,
        typer.Option("--margin", metavar="POINTS", help="Say how many items exclude a loss of accuracy this large."),
    ] = None,
    kl_margin: Annotated[
        float | None,
        typer.Option("--kl-margin", metavar="NATS", help="Say how many items exclude a change of KL this large."),
    ] = None,
    power: Annotated[float, typer.Option("--power", help="Chance that --margin asks for, if there is no loss.")] = 0.8,
    as_json: Json = False,
) -> None:
    """Show what `run` would do, and estimate its cost from earlier trials of the model in the results.

    Exit with 2 if a trial surely needs more memory than this machine has free, unless RAY_ADDRESS names a cluster.
    """
    path = one_or_all(sweep, all_files)
    _check_margins(margin, kl_margin, power)
    if path is None:
        if margin is not None or kl_margin is not None:
            fail("--all and --margin are both given; allowed: --margin with one SWEEP")
        _plan_all(location, overrides, limit, profile, calibrate, as_json)
    spec = read_sweep(path, overrides, limit, profile)
    if topology and not as_json:
        print_topologies(spec, make_console())
        return
    results = fetched(location, spec.name, *spec.take_from)
    todo = plan_of(path, spec, results, lenient=True, calibrate=calibrate)
    needed = None
    if margin is not None or kl_margin is not None:
        from sweeps.plan.items_needed import needed_items  # scipy takes a second to import

        with one_line_errors():
            needed = needed_items(todo.sweep.trials, results, margin=margin, kl_margin=kl_margin, power=power)
    if as_json:
        rows = {} if needed is None else {"items_needed": [asdict(row) for row in needed]}
        print_json({**plan_document(todo, results), **rows})
    else:
        print_plan(todo, make_console())
        if needed is not None:
            _print_needed(needed, margin, kl_margin, power)
    if named_cluster() is None:  # another machine may have the memory
        with one_line_errors():
            check_memory(todo.pending, todo.memory, todo.device)


def _check_margins(margin: float | None, kl_margin: float | None, power: float) -> None:
    if margin is not None and not 0 < margin < 100:
        fail(f"--margin is {margin:g}; allowed: points of accuracy, above 0 and below 100")
    if kl_margin is not None and not 0 < kl_margin < math.inf:
        fail(f"--kl-margin is {kl_margin:g}; allowed: nats, above 0")
    if not 0.5 <= power < 1:
        fail(f"--power is {power:g}; allowed: 0.5 or more, and below 1")


def _print_needed(rows: "list[NeededItems]", margin: float | None, kl_margin: float | None, power: float) -> None:
    from sweeps.plan.items_needed import render_needed

    margins = [f"a loss of {margin:g} points against dense" if margin is not None else ""]
    margins += [f"a change of KL of {kl_margin:g} nats" if kl_margin is not None else ""]
    console = make_console()
    say(
        console,
        "",
        f"Items that exclude {' or '.join(filter(None, margins))} with a chance of {power:.0%}, if there is none;",
        "by earlier trials of the same arm, whatever their items, and at the level of 95 % intervals:",
    )
    console.print(render_needed(rows), highlight=False)


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
