"""How well scores predict KL: the correlation over the right turns, and nothing where there is none.

These tests would catch scores of unchecked turns, turns of another arm, a correlation of values in place of ranks, and
one over two turns.
"""

import dataclasses
import io

import pytest
from rich.console import Console
from scipy.stats import spearmanr

from analysis.results import Results
from analysis.tables.score_table import score_rows, show_scores
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

SPEC = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(criterion="length"))
OTHER = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(criterion="always"))


def scored(result, distance, kl, continuation=lambda turn: None, entropy=lambda turn: None):
    turns = [
        dataclasses.replace(
            turn,
            nearest_distance=distance(turn),
            entropy_ratio=entropy(turn),
            kl_next_token=None if turn.mode == "dense" else kl(turn),
            kl_continuation=None if turn.mode == "dense" else continuation(turn),
        )
        for turn in result.turns
    ]
    return dataclasses.replace(result, turns=turns)


def test_ranks_of_the_checked_turns(write, make_result):
    ours = scored(
        make_result(SPEC, samples=9),
        distance=lambda t: (t.sample_index * 5 % 9) ** 3 + t.agent_index,
        kl=lambda t: 0.01 * (t.sample_index * 4 % 7) ** 2 + 0.001 * t.agent_index,
        continuation=lambda t: 0.5 / (1 + t.sample_index) if t.agent_index == 1 else None,
    )
    other = scored(make_result(OTHER, samples=9), lambda t: t.sample_index, lambda t: 1.0 - 0.1 * t.sample_index)
    rows = score_rows(Results(write(ours, other)))
    assert [(row.criterion, row.score) for row in rows] == [
        ("always", "nearest_distance"),
        ("length", "nearest_distance"),
    ]
    always, length = rows
    assert always.with_kl_next_token.value == pytest.approx(-1)
    assert always.with_kl_continuation is None
    checked = [turn for turn in ours.turns if turn.mode != "dense"]
    expected = spearmanr([t.nearest_distance for t in checked], [t.kl_next_token for t in checked]).statistic
    found = length.with_kl_next_token
    assert (found.value, found.n, found.n_clusters) == (pytest.approx(expected), 16, 8)
    assert found.low < expected < found.high
    assert length.with_kl_continuation.n == 8


def test_nothing_to_correlate(write, make_result):
    """Two turns, equal scores, and results without scores."""
    two = scored(make_result(SPEC), lambda t: t.agent_index, lambda t: 0.1 * t.agent_index)
    equal = scored(make_result(OTHER, samples=9), lambda t: 1.0, lambda t: 0.1 * t.sample_index)
    results = Results(write(two, equal, make_result(TrialSpec(agents=2))))
    assert (score_rows(results), show_scores(results).tables) == ([], [])


def test_rendering(write, make_result):
    entropy = scored(
        make_result(SPEC, samples=9),
        distance=lambda t: None,
        kl=lambda t: 0.1 * t.sample_index,
        entropy=lambda t: 0.1 * t.sample_index,
    )
    console = Console(width=120, record=True, file=io.StringIO())
    (table,) = show_scores(Results(write(entropy))).tables
    console.print(table)
    lines = console.export_text().splitlines()
    assert " ".join(lines[-1].split()) == "recall, 2 agents, kvcomm length entropy ratio +1.00 +1.00 to +1.00 16"
    assert "continuation" not in lines[-2]
