"""What commands print on terminals of several widths, for the shipped results.

Run as a module, this file writes the snapshots anew: ``PYTHONPATH=.:tests/support python -m terminal_widths``. Look at
the difference before you commit it.
"""

import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from rich.console import Console
from typer.testing import CliRunner

from analysis.compare.compare_view import print_changes
from analysis.compare.comparison import compare_results
from analysis.compare.contrasts import make_contrasts
from analysis.paper import PAPER_TABLES
from analysis.paper.paper_rendering import render_paper_table
from analysis.results import Results
from analysis.tables.show import make_tables
from sweeps.cli import app
from sweeps.cli.output import PlainConsole
from sweeps.status.status_view import print_statuses
from sweeps.status.sweep_status import sweep_statuses

ROOT = Path(__file__).parents[2]
SNAPSHOTS = ROOT / "tests" / "sweeps" / "cli" / "snapshots"
WIDTHS = (80, 100, 140)
_SHIPPED = ROOT / "analysis" / "embedded"
_NOWHERE = ("--results", "no-such-results")
Print = Callable[[Console], object]


def _show(sweep: str) -> Print:
    return make_tables(Results(_SHIPPED / sweep)).print


def _command(*arguments: str) -> Print:
    """A command whose answer does not depend on the machine."""

    def run(console: Console) -> None:
        terminal = {"TTY_COMPATIBLE": "1", "COLUMNS": str(console.width), "TERM": "xterm", "NO_COLOR": "1"}
        done = CliRunner(env=terminal).invoke(app, arguments)
        assert done.exit_code == 0, done.output
        lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
        console.file.write("\n".join(line for line in lines if not line.startswith("memory per replica")) + "\n")

    return run


def _compare() -> Print:
    found = compare_results(_SHIPPED / "table_1", _SHIPPED / "table_5", None)
    return lambda console: print_changes(found, console)


def _paper() -> Print:
    tables = [render_paper_table(table) for table in PAPER_TABLES["2"](Results(_SHIPPED / "table_2"))]
    return lambda console: console.print(*tables, sep="\n\n", highlight=False)


COMMANDS: dict[str, Callable[[], Print]] = {
    "show_questions": lambda: _show("table_6"),
    "show_timing": lambda: _show("table_2"),
    "show_beside": lambda: make_contrasts(Results(_SHIPPED / "table_1"), "dense").print,
    "show_paper": _paper,
    "compare": _compare,
    "status": lambda: lambda console: print_statuses(sweep_statuses(_SHIPPED), console),
    "plan": lambda: _command("plan", str(ROOT / "sweeps/examples/search.yaml"), *_NOWHERE),
    "plan_all": lambda: _command("plan", "--all", "--profile", "embedded", *_NOWHERE),
    "list": lambda: _command("list", "methods"),
}
"""What prints each snapshot. The results are read once for all widths."""


def snapshot(name: str) -> str:
    """Return what a command prints at each width."""
    print_on = COMMANDS[name]()
    texts = []
    for width in WIDTHS:
        file = io.StringIO()
        with redirect_stdout(io.StringIO()):
            print_on(PlainConsole(file=file, width=width))
        lines = [line.rstrip() for line in file.getvalue().splitlines()]
        texts.append("\n".join([f"{'-' * 10} {width} columns {'-' * 10}", *lines, ""]))
    return "\n".join(texts)


def main() -> None:
    SNAPSHOTS.mkdir(exist_ok=True)
    for name in COMMANDS:
        (SNAPSHOTS / f"{name}.txt").write_text(snapshot(name), encoding="utf-8")


if __name__ == "__main__":
    main()
