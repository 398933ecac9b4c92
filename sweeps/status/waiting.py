"""A progress bar that moves while the command waits for work that reports no progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sweeps.wording import say

_REFRESHES_PER_SECOND = 4
"""Redraws per second, by a thread, while the caller may be timing something. One redraw takes about a millisecond, so
four a second use half a percent of one core; more would show in the times."""


@contextmanager
def moving_bar(
    console: Console, text: str, *, total: int | None = None, keep: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show a moving bar with the elapsed seconds in a terminal. Elsewhere print ``text`` as a plain line.

    Yields a function that advances the bar towards ``total``. Without a total the bar moves to and fro. With ``keep``
    the bar stays after the block, full unless an error ended it. Without ``keep`` no bar stays, and nothing is printed
    outside a terminal.
    """
    if not console.is_terminal:
        if keep:
            say(console, f"{text} ...")
        yield lambda _done: None
        return
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}", markup=False))
    bar = Progress(
        *columns,
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=_REFRESHES_PER_SECOND,
        transient=not keep,
    )
    with bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.advance(task, done)
        bar.update(task, total=total or 1, completed=total or 1)
