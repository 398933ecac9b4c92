"""The ``kvcomm`` command. ``kvcomm --help`` and README.md list what it can do.

Exit codes: 0 all is well, 1 some trials failed or a check fires, 2 bad input or a results folder that cannot be
written, 130 interrupted, 143 terminated.
"""

from typing import Annotated

import typer

from harness.environment import capture_environment
from sweeps.cli.bench_command import bench
from sweeps.cli.check_command import check_method
from sweeps.cli.demo_command import demo
from sweeps.cli.explore_command import explore
from sweeps.cli.fetch_command import fetch
from sweeps.cli.guide_commands import new, schema
from sweeps.cli.list_command import list_names
from sweeps.cli.missing_packages import Commands
from sweeps.cli.mlflow_commands import mlflow_sync, ui
from sweeps.cli.plan_command import plan
from sweeps.cli.result_commands import claims, compare, figures, pack, report, show, status
from sweeps.cli.run_commands import doctor, run, submit
from sweeps.cli.trace_commands import export_trace, potential

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Benchmark KV-cache reuse between agents. Exit codes: 0 all is well, 1 some trials failed or a check fires, "
    "2 bad input.",
)
for command in (demo, plan, run, submit, status, show, figures, report, explore, compare, claims, pack, ui):
    app.command()(command)
app.command("check-method")(check_method)
app.command("mlflow-sync")(mlflow_sync)
app.command()(bench)
app.command()(doctor)
app.command()(fetch)
app.command()(potential)
app.command("export-trace")(export_trace)
app.command("list")(list_names)
app.command()(schema)
app.command()(new)


def _print_version(asked: bool) -> None:
    """Print the version, with the commit where this is a checkout, and end the command."""
    if asked:
        environment = capture_environment()
        version, commit = environment.packages["kvcomm-harness"], environment.git_commit
        typer.echo(f"kvcomm {version or 'of a source tree'}{f', commit {commit[:12]}' if commit else ''}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before a command."""


def main() -> None:
    """Run the ``kvcomm`` command."""
    app()
