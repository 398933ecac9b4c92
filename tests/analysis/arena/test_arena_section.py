"""The methods of a sweep side by side on the page."""

import dataclasses

import pytest
from made_up import with_fidelity

from analysis.arena.arena_section import arena_tables
from analysis.report.blocks import Grid, Text, blocks_of
from analysis.results import Results
from harness.spec import TrialSpec


def trial(make_result, method, kl):
    """Twelve samples in batches of four; the KL of the first batch is 100 times that of the others."""
    result = make_result(TrialSpec(agents=2, method=method, fidelity=1.0, batch_size=4), samples=12)
    turns = [dataclasses.replace(turn, mode="reuse", computed_tokens=9.0) for turn in result.turns]
    own = dataclasses.replace(result, turns=turns)
    return with_fidelity(own, lambda turn: kl * (100 if turn.sample_index < 4 else 1))


def test_several_methods_from_the_second_batch_on(write, make_result):
    """Catches the first batch counted, and tables that are not those of the terminal."""
    kls = {"naive": 0.4, "epic": 0.1, "kvcomm": 0.2}
    tables = arena_tables(Results(write(*(trial(make_result, method, kl) for method, kl in kls.items()))))
    blocks = [block for table in tables for block in blocks_of(table)]
    texts = [block.text for block in blocks if isinstance(block, Text)]
    assert texts[0] == "from sample 4 on, without the first batch:"
    assert texts[1] == "recall, 2 agents: 8 items"
    arms, *_ = [block for block in blocks if isinstance(block, Grid)]
    column = arms.head.index("KL first token")
    assert {row[0]: float(row[column].strip("*")) for row in arms.rows} == pytest.approx(kls)


@pytest.mark.parametrize("methods", [("naive", "epic"), ("dense", "naive", "epic")])
def test_two_methods_are_no_arena(write, make_result, methods):
    """Catches dense being counted as one of those that are compared with it."""
    results = [trial(make_result, method, 0.1) for method in methods if method != "dense"]
    results += [make_result(TrialSpec(agents=2), samples=12)] if "dense" in methods else []
    assert arena_tables(Results(write(*results))) == []
