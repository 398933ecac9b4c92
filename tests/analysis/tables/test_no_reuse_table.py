"""The table of reasons, on turns counted by hand.

These tests would catch shares that do not add up, turns of another arm among them, a method without pools among the
rows, and 0 % where older results hold no reasons.
"""

import io

import pytest
from made_up import with_reasons
from rich.console import Console

from analysis.results import Results
from analysis.tables.no_reuse_table import NOT_HELD, no_reuse_rows, show_no_reuse
from analysis.tables.show import make_tables
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
LOW, HIGH = (TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=gamma)) for gamma in (0.1, 0.3))


def printed(results) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    for table in show_no_reuse(results).tables:
        console.print(table)
    return console.export_text()


def test_shares_of_turns(write, make_result):
    low, high = (
        with_reasons(make_result(spec, samples=4), reasons) for spec, reasons in ((LOW, "ClLLR+tr"), (HIGH, "C+++++++"))
    )
    results = Results(write(make_result(DENSE, samples=4), low, high))
    first, second = no_reuse_rows(results)
    assert (first.cell, first.n_turns, first.reused) == ("recall, 2 agents, kvcomm gamma=0.1", 8, 1 / 8)
    assert [(one.reason, one.placeholder, one.share) for one in first.reasons] == [
        ("cold", "question", 1 / 8),
        ("too_long", "question", 2 / 8),
        ("too_long", "answer", 1 / 8),
        ("refused", "question", 1 / 8),
        ("refused", "answer", 1 / 8),
        ("refused", "tool", 1 / 8),
    ]
    for row in (first, second):
        assert row.reused + sum(one.share for one in row.reasons) == pytest.approx(1)
    lines = printed(results).splitlines()
    assert lines[0] == "turns that reused every segment, and why the others did not:"
    assert " ".join(lines[1].split()) == "cold too long too long refused refused refused"
    assert " ".join(lines[2].split()) == "cell turns reused question question answer question answer tool"
    assert lines[-1].split()[-8:] == ["8", "87.5%", "12.5%", *["0.0%"] * 5]


def test_older_results_do_not_hold_reasons(write, make_result):
    """Each cell on its own, and both in one table."""
    old = with_reasons(make_result(LOW), "??++")
    (row,) = no_reuse_rows(Results(write(old)))
    assert (row.reused, row.reasons) == (0.5, None)
    assert printed(Results(write())) == f"{NOT_HELD}\n"
    new = with_reasons(make_result(HIGH), "Cl++")
    lines = printed(Results(write(new))).splitlines()
    assert [line.split()[-4:] for line in lines[-2:]] == [["4", "50.0%", "-", "-"], ["4", "50.0%", "25.0%", "25.0%"]]


def test_old_turns_among_new_ones_have_a_column(write, make_result):
    """Catches turns without a reason that vanish from the shares, as after a seed of an older version."""
    (row,) = no_reuse_rows(Results(write(with_reasons(make_result(LOW), "C?s+"))))
    assert [(one.reason, one.placeholder, one.share) for one in row.reasons] == [
        ("cold", "question", 0.25),
        ("slot_unmet", "history", 0.25),
        ("unrecorded", "", 0.25),
    ]


def test_methods_without_pools_have_no_row(write, make_result):
    results = Results(write(make_result(DENSE), make_result(LOW, status="error")))
    assert (no_reuse_rows(results), printed(results)) == ([], "")
    assert make_tables(results).to_dict()["no_reuse"] == []
