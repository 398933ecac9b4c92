"""The numbers behind the verdict: every arm, and what those that may reuse gain over dense and ``prefix``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.table import Table

from analysis import measures
from analysis.arms import Arm, arms_of
from analysis.devices import others_cores
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.no_reuse_table import accounts_of
from analysis.tables.rendering import column_table, count_of, decimal, interval_of, value_of
from harness.cells import Cell
from harness.results.no_reuse import Account
from harness.results.rates import is_correct


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One arm, beside dense if it may reuse. A field is None if there are no data for it.

    Gains are ratios of sums over whole conversations (``analysis.conversations``), speedups medians over turns.
    """

    cell: Cell
    method: str
    """Name of the method, without its parameters."""
    trial_ids: frozenset[str]
    n_ok: int
    """Number of its trials that ended well."""
    ended: datetime
    """When the last of its trials ended."""
    prompt_tokens: float
    """Mean length of a prompt."""
    accuracy: Estimate | None
    """Correct answers, in percent."""
    ttft: Estimate | None
    """Mean TTFT of a turn, dense ones included, in milliseconds."""
    ttft_sum: Estimate | None
    """TTFT summed over the turns of an item, in milliseconds."""
    kl: Estimate | None
    """KL to dense of the next token, in nats."""
    kl_continuation: Estimate | None
    """The same over the first tokens of dense's answer."""
    latency: Estimate | None
    """Seconds that an item takes."""
    decode_share: Estimate | None
    """Decoding's share of them, in percent."""
    latency_gain: Estimate | None
    """Dense latency / latency, over all items: what a conversation gains."""
    latency_gain_over_prefix: Estimate | None
    ttft_sum_gain: Estimate | None
    """Dense TTFT / TTFT, summed over all turns of all items."""
    ttft_sum_gain_over_prefix: Estimate | None
    energy: Estimate | None
    """Joules that an item takes."""
    speedup: Estimate | None
    """Median of dense TTFT / TTFT over the turns that reused anything."""
    speedup_over_prefix: Estimate | None
    change: Estimate | None
    """Change of accuracy on the same items, in percentage points."""
    n_changed: int | None
    """Number of items that exactly one of the two arms got right; None if several seeds answered an item."""
    p_value: float | None
    """P-value of McNemar's test."""
    token_reuse: Estimate | None
    """Reused prompt tokens, in percent."""
    beyond_prefix: Estimate | None
    """Prompt tokens reused beyond those of an exact prefix cache, in percent."""
    turn_reuse: Estimate | None
    """Turns that reused every segment, in percent."""
    has_pools: bool
    accounts: dict[Account, int] | None
    """Number of turns by the reason why they did not reuse; None if the results do not hold it."""
    pool_gigabytes: Estimate | None
    others_cores: float | None
    """Mean number of cores that other processes kept busy meanwhile."""


def all_arms(results: Results) -> list[Comparison]:
    """Return the numbers of the successful arms of one sweep. Skip ``blend`` trials, which have no turns."""
    taking_turns = results.trials[results.trials["workload"] != "blend"]
    arms = arms_of(results).by_cell(taking_turns)
    return [_comparison(cell, arm) for cell, arm in arms.items() if arm.n_ok and not arm.turns.empty]


def compare_arms(results: Results) -> list[Comparison]:
    """Return those that may reuse: all but dense."""
    return [row for row in all_arms(results) if row.method != "dense"]


def _comparison(cell: Cell, arm: Arm) -> Comparison:
    method = cell.method.split()[0]
    change, p_value = measures.accuracy_change(arm) if method != "dense" else (None, None)
    pairs = measures.graded_pairs(arm.paired_samples(), "_dense")
    differ = pairs["outcome"].map(is_correct) != pairs["outcome_dense"].map(is_correct)
    return Comparison(
        cell=cell,
        method=method,
        trial_ids=frozenset(arm.trials["trial_id"]),
        n_ok=arm.n_ok,
        ended=arm.trials["ended_at"].max(),
        prompt_tokens=float(arm.turns["prompt_tokens"].mean()),
        accuracy=measures.accuracy(arm),
        ttft=measures.mean_ttft(arm),
        ttft_sum=measures.ttft_sum(arm),
        kl=measures.kl_next_token(arm),
        kl_continuation=measures.kl_continuation(arm),
        latency=measures.latency(arm),
        decode_share=measures.decode_share(arm),
        latency_gain=measures.latency_speedup(arm),
        latency_gain_over_prefix=measures.latency_speedup(arm, "prefix"),
        ttft_sum_gain=measures.ttft_sum_speedup(arm),
        ttft_sum_gain_over_prefix=measures.ttft_sum_speedup(arm, "prefix"),
        energy=measures.energy(arm),
        speedup=measures.speedup(arm),
        speedup_over_prefix=measures.speedup(arm, "prefix"),
        change=change,
        n_changed=int(differ.sum()) if pairs["item"].is_unique else None,
        p_value=p_value,
        token_reuse=measures.token_reuse(arm),
        beyond_prefix=measures.beyond_prefix_reuse(arm),
        turn_reuse=measures.turn_reuse(arm),
        has_pools=bool(arm.turns["anchors_in_pool"].notna().any()),
        accounts=accounts_of(arm),
        pool_gigabytes=measures.pool_gigabytes(arm),
        others_cores=others_cores(arm.trials[arm.trials["status"] == "ok"]),
    )


def render_comparisons(rows: Sequence[Comparison]) -> Table:
    """Render the numbers behind the verdict, one row per cell. Columns that no row knows are left out."""
    columns = [("cell", [str(row.cell) for row in rows])]
    columns += _estimates("item,\nseconds", [row.latency for row in rows], 2, interval=False)
    columns += _estimates("decoding,\n%", [row.decode_share for row in rows], 0, interval=False)
    columns += _estimates("speedup of\nan item", [row.latency_gain for row in rows], 2)
    columns += _estimates("item over\nprefix", [row.latency_gain_over_prefix for row in rows], 2)
    columns += _estimates("speedup of\nTTFT sum", [row.ttft_sum_gain for row in rows], 2)
    columns += _estimates("TTFT sum\nover prefix", [row.ttft_sum_gain_over_prefix for row in rows], 2)
    columns += _estimates("joules\nper item", [row.energy for row in rows], 1)
    columns += _estimates("speedup of\nreusing turns", [row.speedup for row in rows], 2)
    columns += [("turns", [count_of(row.speedup) for row in rows])]
    columns += _estimates("reusing turns\nover prefix", [row.speedup_over_prefix for row in rows], 2)
    columns += _estimates("accuracy -\ndense, points", [row.change for row in rows], 1, sign="+")
    columns += [
        ("items", [count_of(row.change) for row in rows]),
        ("McNemar\np", [decimal(row.p_value) for row in rows]),
        ("reuse\ntokens %", [value_of(row.token_reuse, 1) for row in rows]),
        *_estimates("beyond\nprefix %", [row.beyond_prefix for row in rows], 1, interval=False),
        ("reuse\nturns %", [value_of(row.turn_reuse, 1) for row in rows]),
        ("anchors\nMB", [value_of(row.pool_gigabytes and row.pool_gigabytes.scaled(1000), 1) for row in rows]),
    ]
    return column_table(columns, left=("cell",))


def _estimates(
    name: str, estimates: Sequence[Estimate | None], digits: int, *, sign: str = "", interval: bool = True
) -> list[tuple[str, list[str]]]:
    """Return the columns of a measure and its interval; none if no row has it."""
    if not any(estimates):
        return []
    columns = [(name, [value_of(one, digits, sign) for one in estimates])]
    return columns + ([("95 %\ninterval", [interval_of(one, digits, sign) for one in estimates])] if interval else [])
