"""Text for people: durations, counts, and plain lines on a console."""

from rich.console import Console


def duration(seconds: float) -> str:
    """Return a duration as readable hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as ``1 trial`` and ``2 trials``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def say(console: Console, *lines: str) -> None:
    """Print lines as they are: unwrapped, without markup or colors."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
