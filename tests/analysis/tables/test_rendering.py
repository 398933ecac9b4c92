"""Tables on narrow terminals."""

import io

from rich.console import Console

from analysis.tables.rendering import column_table

NAMES = ["recall, 4 agents, kvcomm placeholder_offset=False", "recall, 4 agents, dense"]
NUMBERS = [(f"number\n{index}", [f"{index}234.5", f"{index}.5"]) for index in range(1, 9)]


def printed(width, columns, left):
    console = Console(file=io.StringIO(), width=width)
    console.print(column_table(columns, left=left))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_table_that_fits_stays_whole():
    """Catches a table in parts where there is room for all of it."""
    lines = printed(120, [("cell", NAMES), *NUMBERS], ("cell",))
    assert len(lines) == 4
    assert lines[2].split()[-8:] == [f"{index}234.5" for index in range(1, 9)]


def test_a_narrow_table_comes_in_parts():
    """Catches words cut in two, numbers lost or twice, and parts whose rows nothing names."""
    lines = printed(60, [("cell", NAMES), *NUMBERS], ("cell",))
    assert max(map(len, lines)) <= 60
    text = " ".join(lines)
    assert all(text.split().count(value) == 1 for _, values in NUMBERS for value in values)
    assert text.count("placeholder_offset=False") == text.count("dense") == text.count("cell") == 2
    assert lines.count("") == 1
    assert all(len(line) > 3 for line in lines if line)


def test_right_columns_between_names_are_names():
    """Catches a part that leaves out the number of agents, which stands before the method."""
    columns = [("workload", ["recall", "recall"]), ("agents", ["2", "3"]), ("method", ["dense", "kvcomm"]), *NUMBERS]
    lines = printed(50, columns, ("workload", "method"))
    assert max(map(len, lines)) <= 50
    rows = [line for line in lines if line.startswith("recall")]
    assert len(rows) == 2 * lines.count("") + 2
    assert {tuple(row.split()[:3]) for row in rows} == {("recall", "2", "dense"), ("recall", "3", "kvcomm")}


def test_without_names():
    """Catches an error where no column is a name."""
    assert max(map(len, printed(30, NUMBERS, ()))) <= 30
