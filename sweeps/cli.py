"""The ``kvcomm`` command.

    kvcomm plan SWEEP       what would run, what is done, what it costs; runs nothing; --topology draws who reads whom
    kvcomm run SWEEP        run what is not done yet
    kvcomm submit SWEEP     run it as a job of a Ray cluster
    kvcomm status RESULTS   how far the sweeps are
    kvcomm show RESULTS     the tables; --paper TABLE for one of the paper's with our results beside it
    kvcomm figures RESULTS  the figures, as files
    kvcomm report RESULTS   one page about all of it, with a verdict in words
    kvcomm compare A B      two results folders, cell by cell; --fail-on EXPR for a check
    kvcomm ui RESULTS       MLflow's pages
    kvcomm mlflow-sync RESULTS   MLflow's runs, rebuilt from Parquet
    kvcomm doctor           what this machine offers

Exit codes: 0 all is well, 1 some trials failed, 2 bad input or a results folder that cannot be written,
130 interrupted, 143 terminated.
"""

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from harness.storage import Mirror, mirror_of
from harness.store import StoreError
from kvcomm_core.model_source import ModelError
from sweeps.mlflow_sync import TrackingError
from sweeps.plan import Plan, check_sandbox, make_plan
from sweeps.plan_view import plan_document, print_plan, say_left_out, summary
from sweeps.spec import SweepSpec, load_sweep
from sweeps.submit import DASHBOARD, JOB_RESULTS, Auth, Cluster, Job, JobError
from sweeps.sweep_file import SweepError
from sweeps.topology_view import print_topologies

if TYPE_CHECKING:
    from analysis.load import Records
    from analysis.paper_tables.show import PaperTables

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Benchmark KV-cache reuse between agents. Exit codes: 0 all is well, 1 some trials failed, 2 bad input.",
)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep file, for example sweeps/smoke.yaml.")]


def _fetched(location: str, sweep: str = "") -> Path:
    """The folder of a location; what is at a URI, of one sweep or of all, is fetched first."""
    with _one_line_errors():
        mirror = mirror_of(location)
        if mirror is None:
            return Path(location)
        mirror.pull(sweep)
        return mirror.folder


Location = Annotated[str, typer.Option("--results", metavar="PATH|URI", help="Where the results are.")]
Results = Annotated[
    Path, typer.Argument(metavar="RESULTS", parser=_fetched, help="A results folder or URI, or a sweep's folder.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the sweep; a list is an axis.")
]
Limit = Annotated[int | None, typer.Option("--limit", help="Items per trial, for every workload.")]
Profile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Which of the sweep file's profiles; it may have none.")
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="Of MLflow. Else MLFLOW_TRACKING_URI, or in the results."),
]
AllowUnsafeCode = Annotated[
    bool, typer.Option("--allow-unsafe-code", help="Run code that models wrote even where it cannot be confined.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

DEFAULT_RESULTS = Path("results")


def main() -> None:
    """The entry point."""
    app()


@app.command()
def plan(
    sweep: SweepFile,
    location: Location = str(DEFAULT_RESULTS),
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    limit: Limit = None,
    profile: Profile = None,
    topology: Annotated[bool, typer.Option("--topology", help="Draw who reads whom instead; needs no data.")] = False,
    as_json: Json = False,
) -> None:
    """Say what `run` would do, and what it would cost."""
    spec = _load(sweep, overrides, limit, profile)
    if topology and not as_json:
        print_topologies(spec, _console())
        return
    results = _fetched(location, spec.name)
    todo = _todo(sweep, spec, results)
    if as_json:
        _print_json(plan_document(todo, results))
        return
    print_plan(todo, _console())


@app.command()
def run(
    sweep: SweepFile,
    location: Location = str(DEFAULT_RESULTS),
    in_process: Annotated[bool, typer.Option("--in-process", help="Without Ray, in this process.")] = False,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    limit: Limit = None,
    profile: Profile = None,
    allow_unsafe_code: AllowUnsafeCode = False,
) -> None:
    """Run the trials that are not done yet, and print the table."""
    console = _console()
    spec = _load(sweep, overrides, limit, profile)
    with _one_line_errors():
        mirror = mirror_of(location)
    results = _fetched(location, spec.name)
    todo = dataclasses.replace(_todo(sweep, spec, results), allow_unsafe_code=allow_unsafe_code)
    with _one_line_errors():
        if in_process or "RAY_ADDRESS" not in os.environ:  # a cluster's replicas see for themselves
            check_sandbox(todo)
        say_left_out(todo, console)
        if not todo.pending:
            if todo.damaged:
                from sweeps.recorder import set_damaged_aside

                set_damaged_aside(todo, results, console)
            left_out = f", {len(todo.left_out)} left out" if todo.left_out else ""
            line = f"nothing to run: {len(todo.done)} of {len(todo.sweep.trials)} trials are done{left_out}"
            console.print(line, highlight=False)
            failed = 0
        else:
            console.print(summary(todo), highlight=False, soft_wrap=True)
            failed = _run(todo, results, console, in_process, mirror)
        if todo.pending or todo.done:
            _say_where(results, todo.sweep.name, console, location)
    raise typer.Exit(1 if failed else 0)


@app.command()
def submit(
    sweep: Annotated[Path | None, typer.Argument(metavar="SWEEP", help="A sweep file; not with --attach.")] = None,
    address: Annotated[str, typer.Option("--address", help="The dashboard of the cluster's head.")] = DASHBOARD,
    location: Annotated[
        str, typer.Option("--results", metavar="PATH|URI", help="On the head, or reachable from it.")
    ] = JOB_RESULTS,
    tracking_uri: TrackingUri = None,
    auth: Annotated[
        Auth, typer.Option("--auth", envvar="RAY_AUTH_MODE", help="What the cluster asks for; a token is never made.")
    ] = Auth.TOKEN,
    attach: Annotated[str | None, typer.Option("--attach", metavar="JOB", help="Follow a job sent earlier.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow its log until it ends.")] = True,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    limit: Limit = None,
    profile: Profile = None,
    allow_unsafe_code: AllowUnsafeCode = False,
) -> None:
    """Run a sweep as a job of a Ray cluster, with this code, follow its log, and exit as it does."""
    if (sweep is None) == (attach is None):
        given = "neither a sweep nor" if sweep is None else "a sweep and"
        _fail(f"submit is given {given} --attach; allowed: one of them")

    console = _console()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    with _one_line_errors():
        job = Job(_load(sweep, overrides, limit, profile), location, tracking_uri, allow_unsafe_code) if sweep else None
        cluster = Cluster(address, auth)
        job_id = cluster.submit(job, say) if job else str(attach)
        raise typer.Exit(cluster.follow(job_id, say) if wait else 0)


@app.command()
def status(results: Results = DEFAULT_RESULTS, as_json: Json = False) -> None:
    """Count the trials of each sweep that are done, failed and left; say what runs now, and which files are damaged."""
    from sweeps.status import sweep_statuses
    from sweeps.status_view import print_statuses

    with _one_line_errors():
        statuses = sweep_statuses(results)
    if as_json:
        _print_json({"sweeps": [dataclasses.asdict(status) for status in statuses]})
        return
    print_statuses(statuses, _console())


@app.command()
def show(
    results: Results = DEFAULT_RESULTS,
    from_sample: Annotated[
        int, typer.Option("--from-sample", metavar="N", help="Leave out the samples before index N.")
    ] = 0,
    paper: Annotated[
        str | None,
        typer.Option("--paper", metavar="TABLE", help="A table of the paper, 1 to 6 or A.2 to A.6, and ours beside."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print accuracy, reuse, TTFT and speedup of each cell and, if measured, how far it is from dense; of timings,
    what they timed."""
    from analysis.load import load
    from analysis.show import make_tables

    with _one_line_errors():
        records = load(results)
    try:
        records = records.from_sample(from_sample)
    except ValueError as error:
        _fail(f"--from-sample is {error}")
    tables = make_tables(records) if paper is None else _paper_tables(records, paper)
    if as_json:
        _print_json({"results": str(results), "from_sample": from_sample, **tables.to_dict()})
    else:
        tables.print(_console())


@app.command("mlflow-sync")
def mlflow_sync(results: Results = DEFAULT_RESULTS, uri: TrackingUri = None) -> None:
    """Write MLflow's runs from the Parquet files: those that are missing or behind. May be repeated."""
    _sync(results, uri, _console())


@app.command()
def ui(
    results: Results = DEFAULT_RESULTS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Of 127.0.0.1.")] = 5000,
) -> None:
    """Bring MLflow's runs up to date and serve its pages on this machine, until Ctrl-C."""
    from sweeps.mlflow_ui import serve_ui

    console = _console()
    uri = _sync(results, None, console)
    with _one_line_errors():
        serve_ui(uri, port, partial(console.print, markup=False, highlight=False, soft_wrap=True))


@app.command()
def figures(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the figures, SWEEP/NAME.* in it.")],
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Draw what the results allow as SVG, PDF and PNG, with the numbers as CSV, and say what the rest would need."""
    from analysis.figures.saving import save_figures

    with _one_line_errors():
        try:
            drawn = save_figures(results, out)
        except OSError as error:
            _fail(f"{error.filename or out} cannot be written: {error.strerror or error}")
    if not drawn.saved:
        _fail(f"{results} holds nothing for a figure; kvcomm run sweeps/smoke.yaml makes results for four of them")
    if as_json:
        _print_json(drawn.to_dict())
        return
    for saved in drawn.saved:
        line = f"{out / saved.sweep / saved.name}.{{svg,pdf,png,csv}}"
        _console().print(line, markup=False, highlight=False, soft_wrap=True)
    for left_out in drawn.left_out:
        line = f"left out: {left_out.sweep}/{left_out.name} {left_out.reason}"
        _console().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page: one HTML file.")],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write one page that opens anywhere: a verdict in words, tables, figures, environment, and what went wrong."""
    from analysis.report.page import render_report
    from sweeps.planned import planned_trials

    with _one_line_errors():
        page = render_report(results, planned_trials(results))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        _fail(f"--out is {out}, which cannot be written: {error.strerror or error}")
    _console().print(str(out), markup=False, highlight=False, soft_wrap=True)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: libraries, devices, models, data."""
    from sweeps.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        _print_json(dataclasses.asdict(diagnosis))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in diagnosis.findings:
        table.add_row(finding.kind, finding.name, "yes" if finding.found else "no", finding.detail)
    _console().print(table)


def _load(sweep: Path, overrides: list[str], limit: int | None, profile: str | None) -> SweepSpec:
    with _one_line_errors():
        return load_sweep(sweep, overrides, limit, profile)


def _todo(path: Path, sweep: SweepSpec, results: Path) -> Plan:
    with _one_line_errors():
        try:
            return make_plan(sweep, results)
        except (SweepError, ModelError) as error:
            raise SweepError(f"{path}: {error}") from None


def _paper_tables(records: "Records", number: str) -> "PaperTables":
    from analysis.paper_tables.show import make_paper_tables

    try:
        return make_paper_tables(records, number)
    except ValueError as error:
        _fail(f"--paper is {error}")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Bad input is one line on stderr and exit code 2."""
    try:
        yield
    except (SweepError, StoreError, ModelError, TrackingError, JobError) as error:
        _fail(str(error))


def _sync(results: Path, uri: str | None, console: Console) -> str:
    """Rebuild MLflow and say what was done; where it is."""
    from sweeps.mlflow_sync import default_uri, mlflow_sync

    with _one_line_errors():
        uri = uri or default_uri(results)
        for synced in mlflow_sync(results, uri):
            done = (
                "in use by another kvcomm, which writes MLflow itself"
                if synced.running
                else f"{synced.written} runs written"
            )
            console.print(f"{synced.sweep}: {synced.trials} trials, {done}", highlight=False, soft_wrap=True)
    return uri


def _console() -> Console:
    """Stdout. Where it is no terminal, lines are as long as they need to be."""
    console = Console()
    return console if console.is_terminal else Console(width=1000)


def _fail(message: str) -> NoReturn:
    print(f"kvcomm: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(2)


def _run(todo: Plan, results: Path, console: Console, in_process: bool, mirror: Mirror | None) -> int:
    """Run the pending trials; how many failed."""
    from sweeps.recorder import Recorder, recording

    recorders: list[Recorder] = []

    @contextmanager
    def watched() -> Iterator[Recorder]:
        with recording(todo, results, console, mirror) as recorder:
            recorders.append(recorder)
            yield recorder

    from sweeps.signals import TerminatedError, ended_by_sigterm

    try:
        if in_process:
            from sweeps.in_process import run_in_process

            with ended_by_sigterm():
                run_in_process(todo, watched())
        else:
            try:
                from sweeps.controller import run_on_ray
            except ModuleNotFoundError as error:
                _fail(f"{error.name} is not installed; install it, or run with --in-process")
            run_on_ray(todo, watched())
    except KeyboardInterrupt as interrupt:
        done = len(todo.done) + (recorders[0].progress.ok if recorders else 0)
        total = len(todo.sweep.trials)
        console.print(
            f"interrupted: {done} of {total} trials are done; the same command goes on from there", highlight=False
        )
        raise typer.Exit(143 if isinstance(interrupt, TerminatedError) else 130) from None
    return recorders[0].progress.failed


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, allow_nan=False, default=_as_json))  # noqa: T201


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _say_where(results: Path, sweep: str, console: Console, location: str) -> None:
    from analysis.load import load
    from analysis.show import make_tables

    console.print()
    make_tables(load(results / sweep)).print(console)
    console.print()
    # Beside the Python that runs this, as its folder is often not on PATH.
    kvcomm = str(Path(sys.executable).with_name("kvcomm"))
    command = shlex.join([min(kvcomm, os.path.relpath(kvcomm), key=len), "ui", location])
    for line in (f"Parquet: {location}/{sweep}/{{trials,turns,samples}}/*.parquet", f"MLflow:  {command}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
