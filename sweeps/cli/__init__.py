"""The ``kvcomm`` command.

    kvcomm demo             what reuse is worth, shown in three minutes: one long prompt, then a small sweep
    kvcomm plan SWEEP       what would run, what is done, what it costs; runs nothing; --topology draws who reads whom
    kvcomm run SWEEP        run what is not done yet; --all, here and with plan: every table and figure of the paper
    kvcomm submit SWEEP     run it as a job of a Ray cluster
    kvcomm status RESULTS   how far the sweeps are
    kvcomm show RESULTS     the tables; --paper TABLE for one of the paper's with our results beside it
    kvcomm figures RESULTS  the figures, as files
    kvcomm report RESULTS   one page about all of it, with a verdict in words
    kvcomm compare A B      two results folders, cell by cell; --fail-on EXPR for a check
    kvcomm ui RESULTS       MLflow's pages
    kvcomm mlflow-sync RESULTS   MLflow's runs, rebuilt from Parquet
    kvcomm doctor           what this machine offers

Exit codes: 0 all is well, 1 some trials failed or a check fires, 2 bad input or a results folder that cannot be
written, 130 interrupted, 143 terminated.
"""

import typer

from sweeps.cli.demo_command import demo
from sweeps.cli.mlflow_commands import mlflow_sync, ui
from sweeps.cli.plan_command import plan
from sweeps.cli.result_commands import compare, figures, report, show, status
from sweeps.cli.run_commands import doctor, run, submit

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Benchmark KV-cache reuse between agents. Exit codes: 0 all is well, 1 some trials failed or a check fires, "
    "2 bad input.",
)
for command in (demo, plan, run, submit, status, show, figures, report, compare, ui):
    app.command()(command)
app.command("mlflow-sync")(mlflow_sync)
app.command()(doctor)


def main() -> None:
    """The entry point."""
    app()
