"""The ``kvcomm`` command.

    kvcomm demo             show the gain of reuse in three minutes: one long prompt, then a small sweep
    kvcomm plan SWEEP       show what would run, what is done and the cost; --topology draws who reads whom
    kvcomm run SWEEP        run what is not done yet; --all, also for plan, takes every table and figure of the paper
    kvcomm submit SWEEP     run it as a job on a Ray cluster
    kvcomm status RESULTS   show the progress of the sweeps
    kvcomm show RESULTS     print the tables; --paper TABLE prints a table of the paper beside our results
    kvcomm figures RESULTS  write the figures as files
    kvcomm report RESULTS   write one page about all results, with a verdict in words
    kvcomm compare A B      compare two results folders cell by cell; --fail-on EXPR makes it a check
    kvcomm potential LOG    say what the prompts of a log of chat calls could reuse, without a model
    kvcomm export-trace RESULTS OUT   write a trial's conversations as such a log, for other engines
    kvcomm ui RESULTS       serve MLflow's pages
    kvcomm mlflow-sync RESULTS   rebuild MLflow's runs from Parquet
    kvcomm doctor           report what this machine offers

Exit codes: 0 all is well, 1 some trials failed or a check fires, 2 bad input or a results folder that cannot be
written, 130 interrupted, 143 terminated.
"""

import typer

from sweeps.cli.demo_command import demo
from sweeps.cli.mlflow_commands import mlflow_sync, ui
from sweeps.cli.plan_command import plan
from sweeps.cli.result_commands import compare, figures, report, show, status
from sweeps.cli.run_commands import doctor, run, submit
from sweeps.cli.trace_commands import export_trace, potential

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
app.command()(potential)
app.command("export-trace")(export_trace)


def main() -> None:
    """Run the ``kvcomm`` command."""
    app()
