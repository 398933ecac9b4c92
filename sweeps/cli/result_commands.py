"""Commands that read results. They import ``analysis`` only when called, as this takes a second."""

import dataclasses
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.options import DEFAULT_RESULTS, FromSample, Json, ResultsFolder, fetched
from sweeps.cli.output import fail, make_console, one_line_errors, print_json
from sweeps.wording import say

if TYPE_CHECKING:
    from analysis.results import Results


class FigureStyle(StrEnum):
    """Where figures go. A test compares these with ``analysis.figures.parts.styles.STYLES``."""

    acm = "acm"
    neurips = "neurips"
    slides = "slides"


def status(results: ResultsFolder = DEFAULT_RESULTS, as_json: Json = False) -> None:
    """Show how many trials of each sweep are done, failed and left, what runs now, and which files are damaged."""
    from sweeps.status.status_view import print_statuses
    from sweeps.status.sweep_status import sweep_statuses

    with one_line_errors():
        statuses = sweep_statuses(results)
    if as_json:
        print_json({"sweeps": [dataclasses.asdict(status) for status in statuses]})
        return
    print_statuses(statuses, make_console())


def pack(
    results: ResultsFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    without_texts: Annotated[
        bool, typer.Option("--without-texts", help="Leave out the texts of prompts and answers.")
    ] = False,
) -> None:
    """Copy the trials that count, in one file per table, to share or to keep them."""
    from harness.results.packing.pack import pack as pack_results

    with one_line_errors():
        packed = pack_results(results, out, without_texts=without_texts)
    for one in packed:
        line = f"{out / one.sweep}: {one.trials} trials, {one.nbytes / 1e6:.1f} MB"
        make_console().print(line, highlight=False, soft_wrap=True)


def show(
    results: ResultsFolder = DEFAULT_RESULTS,
    from_sample: FromSample = 0,
    paper: Annotated[
        str | None,
        typer.Option("--paper", metavar="TABLE", help="Show this table of the paper (1 to 6, A.2 to A.6) beside ours."),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            "--beside",
            metavar="ARM",
            help="Show changes in KL and accuracy from this arm, named as in the tables ('kvcomm gamma=0.3').",
        ),
    ] = None,
    arena: Annotated[
        bool, typer.Option("--arena", help="Show all methods side by side, at what they compute, and which differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print each cell's accuracy, reuse, TTFT, speedup and, if measured, distance from dense, and the timings."""
    if paper is not None and beside is not None:
        fail(f"--beside is {beside}, and --paper {paper}; allowed: one of them")
    if arena and (paper is not None or beside is not None):
        fail("--arena is given with --paper or --beside; allowed: one of them")
    with one_line_errors():
        found = _results(results, from_sample)
        if paper is not None:
            from analysis.paper.show_paper import make_paper_tables

            with _naming("--paper"):
                tables = make_paper_tables(found, paper)
        elif beside is not None:
            from analysis.compare.contrasts import make_contrasts

            with _naming("--beside"):
                tables = make_contrasts(found, beside)
        elif arena:
            from analysis.arena.view import make_arena

            with _naming("--arena"):
                tables = make_arena(_results(results, 0), from_sample)
        else:
            from analysis.tables.show import make_tables

            tables = make_tables(found)
    if as_json:
        print_json({"results": str(results), "from_sample": from_sample, **tables.to_dict()})
    else:
        tables.print(make_console())


def figures(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Write the figures to DIR/SWEEP/NAME.*.")],
    results: ResultsFolder = DEFAULT_RESULTS,
    style: Annotated[FigureStyle, typer.Option("--style", help="Sizes for two columns, one column, or slides.")] = (
        FigureStyle.acm
    ),
    from_sample: FromSample = 0,
    as_json: Json = False,
) -> None:
    """Draw the figures that the results allow (SVG, PDF, PNG, CSV), and say what the others need."""
    from analysis.figures.saving import save_figures

    try:
        with one_line_errors():
            drawn = save_figures(_results(results, from_sample), out, style.value)
    except OSError as error:
        fail(f"{error.filename or out} cannot be written: {error.strerror or error}")
    if not drawn.saved:
        fail(f"{results} holds nothing for a figure; kvcomm run smoke makes results for five of them")
    if as_json:
        print_json(drawn.to_dict())
        return
    say(make_console(), *(f"{out / one.sweep / one.name}.{{svg,pdf,png,csv}}" for one in drawn.saved))
    say(make_console(), *(f"left out: {one.name} {one.reason}" for one in drawn.in_no_sweep()))


def report(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the page to this HTML file.")],
    results: ResultsFolder = DEFAULT_RESULTS,
) -> None:
    """Write a self-contained page: what reuse gains and costs, the paper beside ours, conversations, and failures."""
    from analysis.report.page import render_report
    from sweeps.plan.planned_trials import planned_trials

    gc.freeze()  # the libraries' objects stay: looking through them again and again takes an eighth of the time
    try:
        with one_line_errors():
            page = render_report(results, planned_trials(results))
    finally:
        gc.unfreeze()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        fail(f"--out is {out}, which cannot be written: {error.strerror or error}")
    say(make_console(), str(out))


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", parser=fetched, help="Results folder or URI before the change.")],
    b: Annotated[Path, typer.Argument(metavar="B", parser=fetched, help="Results folder or URI after it.")],
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="EXPR",
            help="Exit with 1 if this holds in any cell: accuracy_change < -2 or ttft_ratio > 1.1",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare accuracy, reuse, TTFT, KL and speedup of two results folders cell by cell, with changes from A to B."""
    from analysis.compare.compare_view import print_changes
    from analysis.compare.comparison import compare_results
    from analysis.compare.expression import parse

    with _naming("--fail-on"):
        check = None if fail_on is None else parse(fail_on)
    with one_line_errors():
        found = compare_results(a, b, check)
    if as_json:
        print_json({"a": str(a), "b": str(b), "fail_on": fail_on, **found.to_dict()})
    else:
        print_changes(found, make_console())
    raise typer.Exit(1 if found.fires else 0)


def claims(
    results: ResultsFolder = DEFAULT_RESULTS,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="A ledger of your own instead of the paper's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which claims of the paper the results reproduce or contradict, and what would decide the others."""
    from analysis.claims.claims_view import print_verdicts
    from analysis.claims.ledger import LedgerError, read_ledger
    from analysis.claims.verdicts import judge
    from analysis.results import Results

    try:
        read = read_ledger(ledger)
    except LedgerError as error:
        fail(str(error))
    with one_line_errors():
        verdicts = judge(Results(results), read)
    if as_json:
        rows = [dataclasses.asdict(one) for one in verdicts]
        print_json({"results": str(results), "ledger_sha256": read.sha256, "claims": rows})
    else:
        print_verdicts(read, verdicts, make_console())


def _results(folder: Path, from_sample: int) -> "Results":
    import pyarrow as pa

    from analysis.results import Results

    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        # Arrow's own allocator gives memory back to the system after each choice of rows, and a fifth of the time of
        # `show` for 20,000 trials went into getting it again.
        pa.set_memory_pool(pa.system_memory_pool())
    found = Results(folder)
    with _naming("--from-sample"):
        return found.from_sample(from_sample)


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Turn a ``ValueError`` about the value of an option into one line that names the option."""
    try:
        yield
    except ValueError as error:
        fail(f"{option} is {error}")
