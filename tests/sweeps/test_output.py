"""The console that all commands print on."""

import io

from rich.table import Table
from rich.text import Text

from sweeps.cli.output import PlainConsole


def test_foreign_text_is_shown_and_does_nothing():
    """Catches markup that raises or colours, emoji codes, and escape sequences, in lines, cells and styled text."""
    foreign = "[/red] [link=http://x]y[/link] :skull: \x1b[2J\x9b1m \u202e \ud800"
    shown = r"[/red] [link=http://x]y[/link] :skull: \x1b[2J\x9b1m \u202e \ud800"
    table = Table(foreign, box=None, pad_edge=False)
    table.add_row(foreign)
    table.add_row(Text(foreign, style="red"))
    file = io.StringIO()
    console = PlainConsole(file=file, width=200)
    console.print(foreign)
    console.print(foreign, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [shown] * 5


def test_our_own_styles_stay():
    """Catches an escape of what rich itself writes to a terminal."""
    file = io.StringIO()
    PlainConsole(file=file, width=80, force_terminal=True, color_system="standard").print(
        Text("\x1b[0mbad", style="red")
    )
    assert file.getvalue() == "\x1b[31m\\x1b[0mbad\x1b[0m\n"
