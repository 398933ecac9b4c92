"""Print the output of ``kvcomm compare``."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from analysis.compare.comparison import CellChange, FolderChange
from analysis.stats import Estimate
from analysis.tables.rendering import count_of, decimal, interval_of, row_table, value_of


def print_changes(found: FolderChange, console: Console) -> None:
    """Print the cells, what only one side has, and where the check holds."""
    if found.cells:
        console.print(render_changes(found.cells), highlight=False)
    else:
        console.print("no cell is in both", highlight=False)
    lines = [f"only in {side}: {cell}" for side, only in (("A", found.only_a), ("B", found.only_b)) for cell in only]
    if found.unknown_fields:
        lines.append(f"not looked at, since one side does not know it: {', '.join(found.unknown_fields)}")
    devices = [" and ".join(side) for side in (found.devices_a, found.devices_b)]
    if all(devices) and (devices[0] != devices[1] or len(found.devices_a) > 1):
        lines.append(f"times of different devices: A ran on {devices[0]}, B on {devices[1]}")
    if found.checked:
        lines += [f"check fires: {cell.cell}" for cell in found.cells if cell.fires]
        lines += [f"check unknown: {cell.cell}" for cell in found.cells if cell.fires is None]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Line:
    """The content of one table line."""

    name: str
    side: str
    change: str
    digits: int
    sign: str = ""


_LINES = (
    _Line("accuracy %, change", "accuracy", "accuracy_change", 1, "+"),
    _Line("reuse tokens %, change", "reuse", "reuse_change", 1, "+"),
    _Line("TTFT p50 ms, ratio", "ttft_p50", "ttft_ratio", 2),
    _Line("KL, change", "kl", "kl_change", 4, "+"),
    _Line("KL, ratio", "kl", "kl_ratio", 4),
    _Line("speedup, ratio", "speedup", "speedup_ratio", 2),
)


def render_changes(cells: Sequence[CellChange]) -> Table:
    """Render one line per measure that a side has for a cell; unknown values are dashes."""
    rows = []
    for cell in cells:
        name = cell.cell
        known = [line for line in _LINES if _sides(cell, line) != (None, None)]
        for line in known:
            rows.append((name, line.name, *_shown(cell, line)))
            name = ""
        if not known:
            rows.append((name, "nothing to compare", "-", "-", "-", "-", "-"))
    head = ("cell", "what", "A", "B", "B to A", "95 %\ninterval", "n")
    return row_table(head, rows, left=("cell", "what"))


def _sides(cell: CellChange, line: _Line) -> tuple[float | None, float | None]:
    return getattr(cell, f"{line.side}_a"), getattr(cell, f"{line.side}_b")


def _shown(cell: CellChange, line: _Line) -> tuple[str, str, str, str, str]:
    a, b = (decimal(value, max(line.digits, 1)) for value in _sides(cell, line))
    change: Estimate | None = getattr(cell, line.change)
    shown = (value_of(change, line.digits, line.sign), interval_of(change, line.digits, line.sign), count_of(change))
    return a, b, *shown
