"""The verdict on a sweep in words: conversation, time, accuracy, reuse and memory of each method against dense.

It begins with what a user waits for: whole conversations. The words claim no more than the intervals: they claim a
difference only if its 95 % interval excludes "no difference".
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import stats
from analysis.kinds import kind_of
from analysis.report.compared_arms import Comparison
from analysis.results import Results
from analysis.stats import Estimate
from harness.results.no_reuse import ACCOUNTS, REUSED, Account

UNMEASURED = "Not measured"


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of the verdict."""

    about: str
    text: str


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
            Statement(f"Conversation ({where})", _conversation(own)),
            Statement(f"Time ({where})", _time(own)),
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


_CONVERSATION = _Words(
    "Speedup of whole items over dense, decoding included,",
    lambda value: f"{value:.2f}x",
    "faster than dense",
    "slower than dense",
    "no difference is shown",
    "answers were not decoded, or no dense arm of the same settings answered the same items",
)
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


def _conversation(rows: Sequence[Comparison]) -> str:
    """Say what whole items gain, and how much of their time is decoding, which reuse does not shorten."""
    text = _sentence(rows, lambda row: row.latency_gain, 1.0, _CONVERSATION)
    text += _also("Over prefix it is", [row.latency_gain_over_prefix for row in rows])
    if any(row.decode_share for row in rows):
        took = _span([row.latency for row in rows], " s", 2)
        text += f" An item takes {took}, of which decoding is {_span([row.decode_share for row in rows], ' %', 0)}."
    text += _also("The TTFT summed over an item's turns has a speedup of", [row.ttft_sum_gain for row in rows])
    text += _also("Over prefix that is", [row.ttft_sum_gain_over_prefix for row in rows])
    energy = [row.energy for row in rows]
    return text + (f" An item takes {_span(energy, ' J')}." if any(energy) else "")


def _time(rows: Sequence[Comparison]) -> str:
    text = _sentence(rows, lambda row: row.speedup, 1.0, _TIME)
    return text + _also("Over prefix it is", [row.speedup_over_prefix for row in rows])


def _also(what: str, estimates: Sequence[Estimate | None]) -> str:
    """Return another sentence with a speedup; nothing if no cell has it."""
    known = [one for one in estimates if one is not None]
    if not known:
        return ""
    within = ""
    if len(known) == 1 and known[0].low is not None and known[0].high is not None:
        within = f" ({known[0].low:.2f}x to {known[0].high:.2f}x)"
    return f" {what} {_span(known, 'x', 2)}{within}."


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
    more = [row.beyond_prefix for row in rows]
    beyond = f", {_span(more, '%')} beyond what an exact prefix cache would have reused" if any(more) else ""
    text = f"{tokens} of the prompt tokens were not recomputed{beyond}; {turns} of the turns reused every segment."
    return text + _reasons([row for row in rows if row.has_pools])


def _reasons(rows: Sequence[Comparison]) -> str:
    """Say why turns did not reuse, over all cells together; nothing for methods without pools."""
    if not rows:
        return ""
    counts: Counter[Account] = Counter()
    for row in rows:
        counts.update(row.accounts or {})
    missing = sum(row.accounts is None for row in rows)
    unknown = (
        ""
        if not missing
        else " Why the others did not is not recorded" + ("." if missing == len(rows) else f" in {_cells(missing)}.")
    )
    others = [account for account in ACCOUNTS if counts[account] and account != REUSED]
    if not others:
        return unknown
    shares = (f"{_named(one)} {100 * counts[one] / counts.total():.1f}%" for one in others)
    return f" Why the others did not, in shares of {counts.total()} turns: {', '.join(shares)}.{unknown}"


def _named(account: Account) -> str:
    reason, kind = account
    return reason.replace("_", " ") + (f" ({kind})" if kind else "")


def _memory(rows: Sequence[Comparison]) -> str:
    sizes = _span([row.pool_gigabytes.scaled(1000) if row.pool_gigabytes else None for row in rows], " MB")
    return f"{UNMEASURED}, or the method keeps no anchors." if sizes == UNMEASURED else f"The anchors took {sizes}."


def _span(estimates: Sequence[Estimate | None], unit: str, digits: int = 1) -> str:
    values = [estimate.value for estimate in estimates if estimate is not None]
    if not values:
        return UNMEASURED
    low, high = (f"{end(values):.{digits}f}" for end in (min, max))
    return f"{low}{unit}" if low == high else f"{low}{unit} to {high}{unit}"
