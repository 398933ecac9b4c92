"""``kvcomm demo``."""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import sweeps
from harness.results.results_writer import ResultsWriter
from sweeps.cli.options import DEFAULT_RESULTS, Location, fetched
from sweeps.cli.output import make_console, one_line_errors
from sweeps.cli.run_commands import INTERRUPTED, command_beside_python, require_to_run, run_one
from sweeps.run.signals import TerminatedError, ended_by_signals
from sweeps.status.waiting import moving_bar
from sweeps.wording import say

SWEEP = Path(sweeps.__file__).with_name("smoke.yaml")


def demo(
    location: Location = str(DEFAULT_RESULTS),
    in_process: Annotated[bool, typer.Option("--in-process", help="Run in this process, without Ray.")] = False,
) -> None:
    """Show the gain of reuse in three minutes: one long prompt in both arms, then the small sweep smoke.yaml."""
    require_to_run("demo", in_process)
    console = make_console()
    name = SWEEP.stem
    results = fetched(location, name)
    with one_line_errors():  # fails before the long prompt takes a minute
        ResultsWriter(results, name).close()
    try:
        with ended_by_signals():
            _long_prompt(console)
    except KeyboardInterrupt as interrupt:
        console.print("interrupted: nothing is kept of the long prompt; the same command begins again")
        raise typer.Exit(143 if isinstance(interrupt, TerminatedError) else INTERRUPTED) from None
    _heading(f"2. A sweep: {SWEEP.name}", console)
    code = run_one(SWEEP, location=location, in_process=in_process)
    turns = f"{location.rstrip('/')}/{name}/turns"
    medians = f"import pandas; print(pandas.read_parquet({turns!r}).groupby('mode').ttft_s.median())"
    say(console, f"pandas:  {command_beside_python('python')} -c {shlex.quote(medians)}")
    kvcomm = command_beside_python("kvcomm")
    say(console, f"next:    README.md, or change a copy of sweeps/smoke.yaml and {kvcomm} run it")
    raise typer.Exit(code)


def _long_prompt(console: Console) -> None:
    """Show the first part. Free the model before returning, since the sweep's replicas load their own."""
    _heading("1. One long prompt: an editor reads the reports of three reporters", console)
    # The progress bar of transformers during model conversion would break ours, and can only be disabled here.
    os.environ.setdefault("TQDM_DISABLE", "1")
    with moving_bar(console, "loading the model (first time: converting)"), one_line_errors():
        from kvcomm_core.models.loading import load_model
        from sweeps.demo import LongPromptSizes, print_long_prompt, run_long_prompt

        model = load_model("embedded")
    shown = run_long_prompt(model, LongPromptSizes(), partial(moving_bar, console))
    console.print()
    print_long_prompt(shown, console)


def _heading(text: str, console: Console) -> None:
    console.print(f"\n{text}\n", style="bold", markup=False, highlight=False, soft_wrap=True)
