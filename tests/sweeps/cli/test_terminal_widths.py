"""Every table is legible on 80, 100 and 140 columns: the output is as in the snapshots, which somebody has looked at.

``PYTHONPATH=.:tests/support python -m terminal_widths`` writes the snapshots anew.
"""

import re

import pytest
from terminal_widths import COMMANDS, SNAPSHOTS, WIDTHS, snapshot

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", COMMANDS)
def test_the_output_is_as_in_the_snapshot(name):
    """Catches a column that pushes others off the screen or into one letter a line, at any of the widths."""
    assert snapshot(name) == (SNAPSHOTS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_snapshots_are_legible(name):
    """Catches a snapshot that was written anew without a look: words broken into letters, and tables that are too
    wide. Lines that are not of tables are left to the terminal."""
    text = (SNAPSHOTS / f"{name}.txt").read_text(encoding="utf-8")
    for width in WIDTHS:
        part = text.split(f"{width} columns")[1].split("----------\n")[1]
        assert not re.search(r"(?m)^ *\S{1,2}$\n ?^ *\S{1,2}$\n ?^ *\S{1,2}$", part), width
        wide = [line for line in part.splitlines() if len(line) > width]
        assert all(
            re.match(r"(zip|grid|list|random|repeats|exclude|trials|only in [AB]:|\S+:) ", line) for line in wide
        ), wide
