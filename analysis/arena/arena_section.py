"""The methods of a sweep side by side on the page, where it compares several that reuse.

These are the tables of ``kvcomm show --arena``. All samples together would mix how good a method is with how long it
takes to fill its pools. So the tables leave out the first batch, from which every method with pools has learnt.
"""

import json

from rich.console import RenderableType

from analysis.arena.rows import EXACT
from analysis.arena.view import make_arena
from analysis.results import Results

_FEWEST = 3
"""Least number of different methods that make an arena: with two, the verdict says all."""


def arena_tables(results: Results) -> list[RenderableType]:
    """Return the tables of a sweep; empty unless it measures the KL of three or more methods that reuse."""
    turns, trials = results.turns, results.ok_trials
    batch = max((json.loads(text).get("batch_size", 1) for text in trials["spec_json"]), default=1)
    first = batch if (turns["sample_index"] >= batch).any() else 0
    measured = turns.loc[(turns["sample_index"] >= first) & turns["kl_next_token"].notna(), "trial_id"]
    methods = set(trials.loc[trials["trial_id"].isin(measured), "method"])
    if len(methods.difference(EXACT)) < _FEWEST:
        return []
    tables = make_arena(results, first).renderables()
    return [f"from sample {first} on, without the first batch:", *tables] if first else tables
