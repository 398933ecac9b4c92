"""Commands for logs of chat calls."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.options import Json, ResultsFolder
from sweeps.cli.output import fail, make_console, one_line_errors, print_json

Log = Annotated[Path, typer.Argument(metavar="LOG", help="A log of chat calls, a JSON object per line.")]


class Form(StrEnum):
    """The forms of a log; see ``analysis/potential/export.py``."""

    chat = "chat"
    aiperf = "aiperf"
    lmcache = "lmcache"


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


def export_trace(
    results: ResultsFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The log to write.")],
    trial: Annotated[str | None, typer.Option("--trial", metavar="ID", help="The trial, if there are several.")] = None,
    form: Annotated[Form, typer.Option("--form", help="chat has the answers, too.")] = Form.chat,
) -> None:
    """Write the conversations of a trial as a log of chat calls, for `potential` and for other engines."""
    from analysis.potential import export
    from analysis.results import Results

    try:
        with one_line_errors():
            written = export.export_trace(Results(results), out, trial=trial, form=form.value)
    except export.ExportError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror or error}")
    unknown = f"; {written.in_one_message} prompts in one message each" if written.in_one_message else ""
    line = f"{out}: {written.calls} calls in {written.conversations} conversations{unknown}"
    make_console().print(line, highlight=False, soft_wrap=True)
