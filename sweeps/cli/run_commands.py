"""Commands that plan and run sweeps."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.redaction import redact
from harness.results.folder_lock import holding
from harness.results.uri_mirror import Mirror, mirror_of
from harness.secrets import take_secrets
from sweeps.cli.missing_packages import TO_RUN, require_packages
from sweeps.cli.options import (
    DEFAULT_RESULTS,
    AllowUnsafeCode,
    Json,
    Limit,
    Location,
    Overrides,
    Profile,
    SweepFile,
    TrackingUri,
    fetched,
)
from sweeps.cli.output import fail, make_console, one_line_errors, print_json
from sweeps.cli.sweep_files import AllFiles, found_sweep, one_or_all, plan_of, read_sweep
from sweeps.jobs.job import JOB_RESULTS, Job
from sweeps.jobs.runtime_env import read_runtime_env, read_secrets
from sweeps.plan.memory import check_memory
from sweeps.plan.paper_files import paper_files
from sweeps.plan.plan_view import say_left_out, summary
from sweeps.plan.planning import Plan, check_sandbox
from sweeps.run.ray_address import named_cluster
from sweeps.status.waiting import moving_bar
from sweeps.submit import DASHBOARD, Auth, Cluster
from sweeps.wording import say

if TYPE_CHECKING:
    from sweeps.run.recorder import Recorder

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def run(
    sweep: SweepFile = None,
    location: Location = str(DEFAULT_RESULTS),
    in_process: Annotated[bool, typer.Option("--in-process", help="Run in this process, without Ray.")] = False,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    limit: Limit = None,
    profile: Profile = None,
    all_files: AllFiles = False,
    allow_unsafe_code: AllowUnsafeCode = False,
) -> None:
    """Run the trials that are not done yet and print the table."""
    take_secrets()  # those of a job
    path = one_or_all(sweep, all_files)
    require_to_run("run", in_process)
    run_file = partial(
        run_one,
        location=location,
        in_process=in_process,
        overrides=overrides,
        limit=limit,
        profile=profile,
        allow_unsafe_code=allow_unsafe_code,
    )
    raise typer.Exit(_run_all(run_file) if path is None else run_file(path))


def require_to_run(command: str, in_process: bool) -> None:
    """End a command that runs trials if it cannot, before it has written anything."""
    require_packages(command, *TO_RUN)
    if not in_process:
        require_packages(command, "ray", instead="; or run with --in-process")


def _run_all(run_one: Callable[..., int]) -> int:
    """Run every file of the paper in turn, even if others fail. Return the worst exit code."""
    console = make_console()
    codes: dict[str, int] = {}
    for path in paper_files():
        say(console, f"\n{path.stem}")
        try:
            codes[path.stem] = run_one(path, quiet=True)
        except typer.Exit as stop:
            if stop.exit_code >= INTERRUPTED:
                raise
            codes[path.stem] = stop.exit_code
    failed = [f"{name} (exit code {code})" for name, code in codes.items() if code]
    line = f"\n{len(codes) - len(failed)} of {len(codes)} files are done"
    say(console, f"{line}; not: {', '.join(failed)}" if failed else line)
    return max(codes.values(), default=0)


def run_one(
    path: Path,
    *,
    location: str,
    in_process: bool,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    profile: str | None = None,
    allow_unsafe_code: bool = False,
    quiet: bool = False,
) -> int:
    """Run one sweep file and return the exit code. ``quiet`` omits the final table."""
    console = make_console()
    spec = read_sweep(path, overrides, limit, profile)
    with one_line_errors():
        mirror = mirror_of(location)
    results = fetched(location, spec.name, *spec.take_from)
    todo = dataclasses.replace(plan_of(path, spec, results), allow_unsafe_code=allow_unsafe_code)
    with one_line_errors():
        if in_process or named_cluster() is None:  # a cluster's replicas check it themselves
            check_sandbox(todo)
            check_memory(todo.pending, todo.memory, todo.device)
        say_left_out(todo, console)
        if not todo.pending:
            if todo.taken or todo.damaged:
                from sweeps.run.recorder import recording

                with recording(todo, results, console, mirror):
                    pass  # entering it copies the ones, and sets the others aside
            elif mirror:
                with holding(results / todo.sweep.name) as alone:
                    if alone:  # else the run that is at work there copies
                        mirror.push(todo.sweep.name)
            left_out = f", {len(todo.left_out)} left out" if todo.left_out else ""
            done = len(todo.done) + len(todo.taken)
            say(console, f"nothing to run: {done} of {len(todo.sweep.trials)} trials are done{left_out}")
            failed = 0
        else:
            say(console, summary(todo))
            failed = _run(todo, results, console, in_process, mirror)
        if not quiet and (todo.pending or todo.done or todo.taken):
            _say_where(results, todo.sweep.name, console, location)
    return 1 if failed else 0


def submit(
    sweep: Annotated[
        Path | None,
        typer.Argument(metavar="SWEEP", help="A sweep file, or the name of one that kvcomm brings; not with --attach."),
    ] = None,
    address: Annotated[str, typer.Option("--address", help="Dashboard of the cluster's head.")] = DASHBOARD,
    location: Annotated[
        str, typer.Option("--results", metavar="PATH|URI", help="Path on the head, or a URI that it can reach.")
    ] = JOB_RESULTS,
    tracking_uri: TrackingUri = None,
    auth: Annotated[
        Auth, typer.Option("--auth", envvar="RAY_AUTH_MODE", help="Authentication of the cluster; never makes a token.")
    ] = Auth.TOKEN,
    attach: Annotated[str | None, typer.Option("--attach", metavar="JOB", help="Follow an earlier job.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job's log until it ends.")] = True,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    limit: Limit = None,
    profile: Profile = None,
    runtime_env: Annotated[
        Path | None,
        typer.Option("--runtime-env", metavar="FILE", help="Ray runtime environment: pip, uv, image_uri, env_vars ..."),
    ] = None,
    env: Annotated[
        list[str], typer.Option("--env", metavar="NAME", help="Send this variable of the shell, shown to nobody.")
    ] = [],  # noqa: B006 - typer copies it
    allow_unsafe_code: AllowUnsafeCode = False,
) -> None:
    """Run a sweep with this code as a job on a Ray cluster, follow its log, and exit with its code."""
    if (sweep is None) == (attach is None):
        given = "neither a sweep nor" if sweep is None else "a sweep and"
        fail(f"submit is given {given} --attach; allowed: one of them")
    require_packages("submit", "ray")

    tell = partial(say, make_console())
    with one_line_errors():
        job = None
        if sweep:
            theirs = read_runtime_env(runtime_env) if runtime_env else {}
            spec = read_sweep(found_sweep(sweep), overrides, limit, profile)
            job = Job(spec, location, tracking_uri, allow_unsafe_code, theirs, read_secrets(env))
        cluster = Cluster(address, auth)
        if cluster.warning:
            tell(cluster.warning)
        job_id = cluster.submit(job, tell) if job else str(attach)
        raise typer.Exit(cluster.follow(job_id, tell) if wait else 0)


def doctor(as_json: Json = False) -> None:
    """Report this machine's libraries, devices, models and data."""
    from sweeps.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        print_json(dataclasses.asdict(diagnosis))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for overflow in ("ellipsis", "ellipsis", "ellipsis", "fold"):  # a long path is shown whole
        table.add_column(overflow=overflow)
    for finding in diagnosis.findings:
        table.add_row(finding.kind, finding.name, "yes" if finding.found else "no", finding.detail)
    make_console().print(table)


def _run(todo: Plan, results: Path, console: Console, in_process: bool, mirror: Mirror | None) -> int:
    """Run the pending trials and return how many failed."""
    from sweeps.run.recorder import Recorder, recording

    recorders: list[Recorder] = []
    with ExitStack() as waiting:

        @contextmanager
        def watched() -> Iterator[Recorder]:
            waiting.close()  # the sweep's display takes over
            with recording(todo, results, console, mirror) as recorder:
                recorders.append(recorder)
                yield recorder
            waiting.enter_context(moving_bar(console, "ending", keep=False))

        from sweeps.run.signals import TerminatedError

        try:
            waiting.enter_context(moving_bar(console, "starting", keep=False))
            _run_pending(todo, watched(), in_process)
        except KeyboardInterrupt as interrupt:
            waiting.close()
            done = len(todo.done) + len(todo.taken) + (recorders[0].progress.ok if recorders else 0)
            total = len(todo.sweep.trials)
            say(console, f"interrupted: {done} of {total} trials are done; the same command goes on from there")
            raise typer.Exit(143 if isinstance(interrupt, TerminatedError) else INTERRUPTED) from None
    return recorders[0].progress.failed


def _run_pending(todo: Plan, recording: AbstractContextManager["Recorder"], in_process: bool) -> None:
    """Run the pending trials without Ray or on it."""
    if in_process:
        from sweeps.run.in_process import run_in_process

        run_in_process(todo, recording)
        return
    from sweeps.run.controller import run_on_ray

    run_on_ray(todo, recording)


def command_beside_python(name: str) -> str:
    """Return the path by which a shell finds a command of this environment, whose folder is often not on PATH."""
    path = str(Path(sys.executable).with_name(name))
    return shlex.quote(min(path, os.path.relpath(path), key=len))


def _say_where(results: Path, sweep: str, console: Console, location: str) -> None:
    """Print the table of a sweep between empty lines, and how to see more."""
    from analysis.results import Results
    from analysis.tables.show import make_tables

    console.print()
    make_tables(Results(results / sweep)).print(console)
    console.print()
    say(console, redact(f"Parquet: {location}/{sweep}/{{trials,turns,samples}}/*.parquet"))
    say(console, redact(f"MLflow:  {command_beside_python('kvcomm')} ui {shlex.quote(location)}"))
