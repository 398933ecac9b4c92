"""Commands for logs of chat calls."""

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.options import Json
from sweeps.cli.output import fail, make_console, print_json

Log = Annotated[Path, typer.Argument(metavar="LOG", help="A log of chat calls, a JSON object per line.")]


def potential(
    log: Log,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="FILE",
            help="Count the tokens of this tokenizer.json, or of embedded, instead of an estimate.",
        ),
    ] = None,
    block: Annotated[int, typer.Option("--block", min=1, help="Tokens of a block of the prefix cache.")] = 16,
    shortest: Annotated[
        int, typer.Option("--shortest", min=8, help="Tokens from which text in another context counts.")
    ] = 32,
    across: Annotated[bool, typer.Option("--across", help="Count text of other conversations, too.")] = False,
    by_time: Annotated[bool, typer.Option("--by-time", help="Take the calls by their times.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Draw DIR/potential.{svg,pdf,png,csv}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a log's prompts could reuse, without a model: by an exact prefix cache, and elsewhere."""
    from analysis.potential.counting import account_of
    from analysis.potential.report import print_account
    from harness.traces.call import TraceError
    from harness.traces.reading import read_calls
    from harness.traces.tokens import ESTIMATE, TokenizerError, estimated, read_tokenizer

    try:
        account = account_of(
            read_calls(log, by_time=by_time),
            tokenize=estimated if tokenizer is None else read_tokenizer(tokenizer),
            counted=ESTIMATE if tokenizer is None else f"those of {tokenizer}",
            block=block,
            shortest=shortest,
            across=across,
        )
    except (TraceError, TokenizerError) as error:
        fail(str(error))
    if out is not None:
        from analysis.figures.saving import save
        from analysis.potential.picture import draw_account

        try:
            save(draw_account(account), out)
        except OSError as error:
            fail(f"{error.filename or out} cannot be written: {error.strerror or error}")
    if as_json:
        print_json({"log": str(log), **account.to_dict()})
        return
    console = make_console()
    print_account(account, console)
    if out is not None:
        console.print("", f"picture: {out}/potential.{{svg,pdf,png,csv}}", sep="\n", highlight=False, soft_wrap=True)
