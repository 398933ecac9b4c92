"""The verdict on a sweep in words: time, accuracy, reuse and memory of each method against dense.

The words claim no more than the intervals: they claim a difference only if its 95 % interval excludes "no difference".
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.table import Table

from analysis import measures, stats
from analysis.arms import Arm, Arms
from analysis.kinds import kind_of
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, count_of, decimal, interval_of, value_of
from harness.results.rates import is_correct

UNMEASURED = "Not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One arm that may reuse, against dense. A field is None if there are no data for it."""

    cell: str
    method: str
    speedup: Estimate | None
    """Median of dense TTFT / TTFT over the turns that reused anything."""
    overall: Estimate | None
    """Total dense TTFT / total TTFT over all turns."""
    change: Estimate | None
    """Change of accuracy on the same items, in percentage points."""
    n_changed: int | None
    """Number of items that exactly one of the two arms got right; None if several seeds answered an item."""
    p_value: float | None
    """P-value of McNemar's test."""
    token_reuse: Estimate | None
    """Reused prompt tokens, in percent."""
    turn_reuse: Estimate | None
    """Turns that reused every segment, in percent."""
    pool_gigabytes: Estimate | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of the verdict."""

    about: str
    text: str


def compare_arms(results: Results) -> list[Comparison]:
    """Compare the successful arms of one sweep that may reuse. Skip ``blend`` trials, which have no turns."""
    taking_turns = results.trials[results.trials["workload"] != "blend"]
    arms = Arms(results).by_cell(taking_turns)
    return [
        _comparison(str(cell), cell.method.split()[0], arm)
        for cell, arm in arms.items()
        if arm.n_ok and cell.method.split()[0] != "dense"
    ]


def _comparison(cell: str, method: str, arm: Arm) -> Comparison:
    change, p_value = measures.accuracy_change(arm)
    pairs = arm.paired_samples()
    differ = pairs["outcome"].map(is_correct) != pairs["outcome_dense"].map(is_correct)
    return Comparison(
        cell=cell,
        method=method,
        speedup=measures.speedup(arm),
        overall=measures.ttft_sum_speedup(arm),
        change=change,
        n_changed=int(differ.sum()) if pairs["item"].is_unique else None,
        p_value=p_value,
        token_reuse=measures.token_reuse(arm),
        turn_reuse=measures.turn_reuse(arm),
        pool_gigabytes=measures.pool_gigabytes(arm),
    )


def state(results: Results, rows: Sequence[Comparison]) -> list[Statement]:
    """State the verdict on one sweep; ``rows`` are its arms."""
    ok = results.ok_trials
    if ok.empty:
        return [Statement("Verdict", "Nothing is measured: no trial of this sweep ended well.")]
    instead = dict.fromkeys(kind_of(name).instead_of_verdict for name in ok["workload"])
    if all(instead):
        return [Statement("Verdict", " ".join(instead))]
    if not rows:
        text = "only dense trials ended well, so speedup, accuracy change, reuse and memory are not measured."
        return [Statement("Verdict", f"Nothing is compared: {text}")]
    statements = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        where = f"{method}, {own[0].cell}" if len(own) == 1 else f"{method}, {len(own)} cells"
        statements += [
            Statement(f"Time ({where})", _sentence(own, lambda row: row.speedup, 1.0, _TIME) + _overall(own)),
            Statement(f"Accuracy ({where})", _sentence(own, lambda row: row.change, 0.0, _ACCURACY) + _unseen(own)),
            Statement(f"Reuse ({where})", _reuse(own)),
            Statement(f"Memory ({where})", _memory(own)),
        ]
    return statements + _shards(ok)


def _shards(ok: pd.DataFrame) -> list[Statement]:
    """Warn that shards lower reuse; return nothing if no trial was sharded."""
    found = [shards for text in ok["spec_json"] if (shards := json.loads(text).get("shards", 1)) > 1]
    if not found:
        return []
    span = " to ".join(str(n) for n in dict.fromkeys((min(found), max(found))))
    trials = "1 trial" if len(found) == 1 else f"{len(found)} trials"
    text = f"{trials} ran in {span} shards, each with pools of its own: less is reused than by the same items in one."
    return [Statement("Shards", text)]


@dataclass(frozen=True, slots=True)
class _Words:
    what: str
    number: Callable[[float], str]
    above: str
    below: str
    same: str
    missing: str


_TIME = _Words(
    "Median speedup of the first token over dense, over the turns that reused anything,",
    lambda value: f"{value:.2f}x",
    "faster than dense",
    "slower than dense",
    "no difference is shown",
    "no turn reused anything, or none has a dense turn of the same settings beside it",
)
_ACCURACY = _Words(
    "Accuracy minus that of dense on the same items",
    lambda value: f"{value:+.1f} points",
    "more accurate than dense",
    "less accurate than dense",
    "no difference is shown, which is not to show that there is none",
    "no graded answer has a dense answer to the same item beside it",
)


def _sentence(rows: Sequence[Comparison], of: Callable[[Comparison], Estimate | None], even: float, w: _Words) -> str:
    known = [(row, estimate) for row in rows if (estimate := of(row)) is not None]
    if not known:
        return f"{UNMEASURED}: {w.missing}."
    if len(rows) == 1:
        estimate = known[0][1]
        counted = f"n = {estimate.n}, {estimate.n_clusters} independent"
        if estimate.low is None or estimate.high is None:
            few = f"too few for an interval, or for a verdict ({counted})"
            return f"{w.what} is {w.number(estimate.value)}; {few}."
        interval = f"95 % interval {w.number(estimate.low)} to {w.number(estimate.high)}, {counted}"
        return f"{w.what} is {w.number(estimate.value)} ({interval}): {_finding(estimate, even, w)}."
    low, high = (end(known, key=lambda pair: pair[1].value) for end in (min, max))
    span = f"goes from {w.number(low[1].value)} ({low[0].cell}) to {w.number(high[1].value)} ({high[0].cell})"
    if w.number(low[1].value) == w.number(high[1].value):
        span = f"is {w.number(low[1].value)} wherever it was measured"
    findings = [_finding(estimate, even, w) for _, estimate in known]
    counts = [f"{_cells(findings.count(finding))}: {finding}" for finding in dict.fromkeys(findings)]
    if len(known) < len(rows):
        counts.append(f"{_cells(len(rows) - len(known))}: not measured")
    return f"{w.what} {span}. By 95 % intervals (not corrected for their number), {'; '.join(counts)}."


def _cells(n: int) -> str:
    return f"{n} cell{'' if n == 1 else 's'}"


def _finding(estimate: Estimate, even: float, w: _Words) -> str:
    if estimate.low is None or estimate.high is None:
        return "too few items for a verdict"
    return w.above if estimate.low > even else w.below if estimate.high < even else w.same


def _overall(rows: Sequence[Comparison]) -> str:
    known = [row.overall for row in rows if row.overall is not None]
    if not known:
        return ""
    within = ""
    if len(known) == 1 and known[0].low is not None and known[0].high is not None:
        within = f" ({known[0].low:.2f}x to {known[0].high:.2f}x)"
    return f" Over all turns, those without reuse included: {_span(known, 'x', 2)}{within}."


def _unseen(rows: Sequence[Comparison]) -> str:
    """Say what an interval of zero width hides: if no item differed, other items still could."""
    alike = [row.change.n for row in rows if row.change is not None and row.n_changed == 0]
    if not alike:
        return ""
    most = stats.proportion(0, min(alike)).high
    cells = "" if len(rows) == 1 else f" in {_cells(len(alike))}"
    return (
        f" Not one item was graded differently{cells}; with {min(alike)} items, up to {100 * (most or 0):.0f} % of all "
        "items could still be (Wilson, 95 %)."
    )


def _reuse(rows: Sequence[Comparison]) -> str:
    tokens = _span([row.token_reuse for row in rows], "%")
    turns = _span([row.turn_reuse for row in rows], "%")
    if tokens == turns == UNMEASURED:
        return f"{UNMEASURED}."
    return f"{tokens} of the prompt tokens were not recomputed; {turns} of the turns reused every segment."


def _memory(rows: Sequence[Comparison]) -> str:
    sizes = _span([row.pool_gigabytes.scaled(1000) if row.pool_gigabytes else None for row in rows], " MB")
    return f"{UNMEASURED}, or the method keeps no anchors." if sizes == UNMEASURED else f"The anchors took {sizes}."


def _span(estimates: Sequence[Estimate | None], unit: str, digits: int = 1) -> str:
    values = [estimate.value for estimate in estimates if estimate is not None]
    if not values:
        return UNMEASURED
    low, high = (f"{end(values):.{digits}f}" for end in (min, max))
    return f"{low}{unit}" if low == high else f"{low}{unit} to {high}{unit}"


def render_comparisons(rows: Sequence[Comparison]) -> Table:
    """Render the numbers behind the verdict, one row per cell."""
    columns = [
        ("cell", [row.cell for row in rows]),
        ("speedup of\nreusing turns", [value_of(row.speedup, 2) for row in rows]),
        ("95 %\ninterval", [interval_of(row.speedup, 2) for row in rows]),
        ("turns", [count_of(row.speedup) for row in rows]),
        ("speedup of\nall turns", [value_of(row.overall, 2) for row in rows]),
        ("95 % \ninterval", [interval_of(row.overall, 2) for row in rows]),
        ("accuracy -\ndense, points", [value_of(row.change, 1, "+") for row in rows]),
        ("95 %  \ninterval", [interval_of(row.change, 1, "+") for row in rows]),
        ("items", [count_of(row.change) for row in rows]),
        ("McNemar\np", [decimal(row.p_value) for row in rows]),
        ("reuse\ntokens %", [value_of(row.token_reuse, 1) for row in rows]),
        ("reuse\nturns %", [value_of(row.turn_reuse, 1) for row in rows]),
        ("anchors\nMB", [value_of(row.pool_gigabytes and row.pool_gigabytes.scaled(1000), 1) for row in rows]),
    ]
    return column_table(columns, left=("cell",))
