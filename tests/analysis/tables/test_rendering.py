"""Tables on narrow terminals."""

import io

import pytest
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
    columns = [("workload", ["recall", "mmlu"]), ("agents", ["2", "3"]), ("method", ["dense", "kvcomm"]), *NUMBERS]
    lines = printed(50, columns, ("workload", "method"))
    assert max(map(len, lines)) <= 50
    rows = [line for line in lines if line.startswith(("recall", "mmlu"))]
    assert len(rows) == 2 * lines.count("") + 2
    assert {tuple(row.split()[:3]) for row in rows} == {("recall", "2", "dense"), ("mmlu", "3", "kvcomm")}


def test_what_all_rows_share_is_said_once():
    """Catches a name that is lost, or that takes the room of the numbers in every row."""
    same = [("workload", ["recall", "recall"]), ("cell", ["4 agents, dense", "4 agents, kvcomm"])]
    lines = printed(50, [*same, *NUMBERS], ("workload", "cell"))
    assert lines[0] == "all rows: workload recall, 4 agents"
    assert {line.split()[0] for line in lines[1:] if line.startswith(("dense", "kvcomm"))} == {"dense", "kvcomm"}
    assert "recall" not in " ".join(lines[1:])
    assert "recall" in printed(120, [*same, *NUMBERS], ("workload", "cell"))[2]


def test_a_blank_name_is_that_of_the_row_above():
    """Catches a share that is counted with the blanks, and one that is taken from them."""
    columns = [("cell", ["recall, dense", "", "recall, kvcomm"]), ("value", ["1" * 40, "2" * 40, "3" * 40])]
    assert printed(50, columns, ("cell",))[0] == "all rows: recall"
    assert [line.split()[0] for line in printed(50, columns, ("cell",))[2:]] == ["dense", "2" * 40, "kvcomm"]


def test_names_are_as_wide_as_they_can_be():
    """Catches names in three lines where there is room, since the numbers come in parts anyway."""
    names = ["kvcomm gamma=0.1 max_anchors=20", "dense"]
    lines = printed(60, [("method", names), *NUMBERS], ("method",))
    assert all(line.startswith(("method", "kvcomm gamma=0.1 max_anchors=20", "dense", " ")) for line in lines if line)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_column_that_is_too_wide_breaks_no_name(width):
    """Catches names in one letter a line, beside a column as wide as the terminal."""
    lines = printed(width, [("cell", ["two words", "dense"]), ("value", ["1" * 90, "2" * 90])], ("cell",))
    assert max(map(len, lines)) <= width
    assert {"words", "dense"} <= {word for line in lines for word in line.split()}


def test_without_names():
    """Catches an error where no column is a name."""
    assert max(map(len, printed(30, NUMBERS, ()))) <= 30
