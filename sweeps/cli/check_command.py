"""``kvcomm check-method``."""

import contextlib
import dataclasses
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from kvcomm_core.config import shown
from kvcomm_core.models.families import FAMILIES
from sweeps.cli.options import Json
from sweeps.cli.output import fail, make_console, one_line_errors, print_json
from sweeps.language.one_method import read_method
from sweeps.status.waiting import moving_bar
from sweeps.wording import counted, duration, say

if TYPE_CHECKING:
    from kvcomm_core.config import MethodConfig
    from kvcomm_core.conformance.running import Result

_WIDTH = 80


def check_method(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A method's name, module:Class or file.py:Class.")],
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="NAME.FIELD=VALUE", help="Set a parameter, as in a sweep file.")
    ] = [],  # noqa: B006 - typer copies it
    family: Annotated[
        list[str], typer.Option("--family", metavar="NAME", help="Check on this family of models alone.")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Check what every method must hold, on small random models of every family, in float32 and bfloat16."""
    for name in family:
        if name not in FAMILIES:
            fail(f"--family is {shown(name)}; allowed: {', '.join(FAMILIES)}")
    with one_line_errors():
        config = read_method(path, overrides)
    import torch

    from kvcomm_core.conformance.running import run_checks

    torch.set_num_threads(1)  # the models are too small for more
    console, start = make_console(), time.perf_counter()
    families = tuple(dict.fromkeys(family)) or tuple(FAMILIES)
    results: list[Result] = []
    # What the method itself prints must not stand in the result.
    with contextlib.redirect_stdout(sys.stderr), moving_bar(console, "checking", keep=False):
        try:
            results += run_checks(config, families)
        except KeyboardInterrupt:
            print("kvcomm: interrupted: nothing is kept", file=sys.stderr)  # noqa: T201
            raise typer.Exit(130) from None
    seconds = time.perf_counter() - start
    failed = any(result.finding for result in results)
    if as_json:
        print_json(_document(path, config, results, seconds))
    else:
        _print_page(f"{path}, {_parameters(config)}", families, results, seconds, console)
    raise typer.Exit(1 if failed else 0)


def _print_page(
    title: str, families: Sequence[str], results: "Sequence[Result]", seconds: float, console: Console
) -> None:
    """Print a table of checks and dtypes, what the checks have seen on the first model, and what failed."""
    from kvcomm_core.conformance.running import CHECKS

    def paragraph(text: str, indent: str = "") -> None:
        say(console, *textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False))

    dtypes = tuple(dict.fromkeys(result.dtype for result in results))
    paragraph(f"Method {title}")
    others = f" Those marked * ran on {families[0]} alone." if len(families) > 1 else ""
    paragraph(f"Checked on random models of six layers: {', '.join(families)}.{others}")
    say(console, "")
    table = Table("check", "what it asks for", *dtypes, box=None, pad_edge=False)
    for check in CHECKS:
        mark = "" if check.of_family or len(families) == 1 else " *"
        cells = [_cell([r for r in results if r.check is check and r.dtype == dtype]) for dtype in dtypes]
        table.add_row(check.name + mark, check.asks, *cells)
    console.print(table)
    seen = [f"{r.check.name}: {r.seen}" for r in results[: len(CHECKS)] if r.seen and r.dtype == dtypes[0]]
    if seen:
        say(console, "")
        paragraph(f"On {families[0]}, {dtypes[0]}: {'; '.join(seen)}.")
    failures = {check: [r for r in results if r.check is check and r.finding] for check in CHECKS}
    failures = {check: found for check, found in failures.items() if found}
    for check, found in failures.items():
        say(console, "")
        paragraph(f"FAILED {check.name} ({_models(found)})", "    ")
        finding = found[0].finding
        assert finding is not None  # noqa: S101 - it failed
        for line in (finding.where, f"expected {finding.expected}", f"found {finding.found}"):
            paragraph(f"    {line}", "        ")
    done = f"{counted(len(failures), 'check')} failed" if failures else "all checks passed"
    say(console, f"{done} in {duration(seconds)}")


def _parameters(config: "MethodConfig") -> str:
    """Name the parameters that do not have their default."""
    fields = [(field.name, getattr(config, field.name), field.default) for field in dataclasses.fields(config)]
    changed = [f"{name}={value!r}" for name, value, default in fields if value != default]
    return f"with {', '.join(changed)}" if changed else "with its default parameters"


def _cell(results: "Sequence[Result]") -> str:
    if not results:
        return "not run"
    return "FAILED" if any(result.finding for result in results) else "ok"


def _models(results: "Sequence[Result]") -> str:
    """Name the models on which a check failed, by dtype; the first is the one that is shown."""
    by_dtype: dict[str, list[str]] = {}
    for result in results:
        by_dtype.setdefault(result.dtype, []).append(result.family)
    return "; ".join(f"{dtype}: {', '.join(families)}" for dtype, families in by_dtype.items())


def _document(path: str, config: "MethodConfig", results: "Sequence[Result]", seconds: float) -> dict[str, object]:
    return {
        "method": path,
        "parameters": dataclasses.asdict(config),
        "passed": not any(result.finding for result in results),
        "seconds": seconds,
        "results": [
            {
                "check": r.check.name,
                "asks": r.check.asks,
                "family": r.family,
                "dtype": r.dtype,
                "passed": r.finding is None,
                "where": r.finding and r.finding.where,
                "expected": r.finding and r.finding.expected,
                "found": r.finding and r.finding.found,
                "seen": r.seen,
                "seconds": r.seconds,
            }
            for r in results
        ],
    }
