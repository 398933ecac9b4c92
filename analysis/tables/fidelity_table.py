"""The table of fidelity: how far each method is from dense on the same prompts, and what it saves for that.

Only sweeps whose trials were checked (``fidelity`` above 0) have rows. Divergences and agreement are means over the
checked turns, with intervals that keep the turns of an item together. The cost beside them is that of all turns of the
method, also of those that turned out dense. ``--from-sample`` leaves out the samples that filled the pools.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Group

from analysis import measures, stats
from analysis.arms import Arm
from analysis.conversations import Conversations
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, decimal, percent, value_of
from analysis.tables.sweep_table import graded_arms

_NAMES = ("workload", "agents", "settings", "method")


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityRow:
    """One cell of a sweep with checked turns, or its dense arm. A field is None if there are no data for it."""

    sweep: str
    workload: str
    agents: int
    method: str
    settings: str
    """All other fields that vary between the cells of the sweep."""
    n_turns: int
    """Number of turns."""
    n_checked: int
    """Number of turns compared with a dense turn on the same prompt; a dense turn is not."""
    kl_next_token: Estimate | None
    """KL(dense || method) of the answer's first token, in nats."""
    kl_continuation: Estimate | None
    """The same, averaged over the first 32 tokens of dense's answer."""
    top1_continuation: Estimate | None
    """Share of these tokens at which both rank the same token first."""
    greedy_agreement: Estimate | None
    """Share of positions at which the two greedy answers have the same token."""
    computed_rate: Estimate | None
    """Tokens computed over prompt tokens; None if the results do not count them."""
    ttft_s: Estimate | None
    """Median TTFT of a turn."""
    conversation_ttft_s: Estimate | None
    """TTFT summed over the turns of an item, mean over items."""


def fidelity_rows(results: Results) -> list[FidelityRow]:
    """Return the rows of all sweeps with checked turns, in the order of ``cell_rows``."""
    rows: list[FidelityRow] = []
    for sweep in results.sweeps:
        own = results.of_sweep(sweep)
        if own.turns["kl_next_token"].isna().all():
            continue
        found = [
            FidelityRow(
                sweep=sweep,
                workload=cell.workload,
                agents=cell.agents,
                method=cell.method,
                settings=cell.settings,
                n_turns=len(arm.turns),
                n_checked=int(arm.turns["kl_next_token"].notna().sum()),
                kl_next_token=measures.kl_next_token(arm),
                kl_continuation=measures.kl_continuation(arm),
                top1_continuation=measures.top1_continuation(arm),
                greedy_agreement=measures.greedy_agreement(arm),
                computed_rate=computed_rate(arm.turns),
                ttft_s=stats.median(arm.turns["ttft_s"], arm.turns["item"]) if len(arm.turns) else None,
                conversation_ttft_s=conversation_ttft(arm),
            )
            for cell, arm in graded_arms(own).items()
        ]
        checked = {_place(row) for row in found if row.n_checked}
        rows += [row for row in found if row.n_checked or (row.method == "dense" and _place(row) in checked)]
    return rows


def render_fidelity(rows: Sequence[FidelityRow]) -> list[Group]:
    """Render one table per sweep for a terminal of 100 columns; unknown values are dashes. Intervals are at 95 %."""
    return [_render([row for row in rows if row.sweep == sweep]) for sweep in dict.fromkeys(row.sweep for row in rows)]


def _render(rows: Sequence[FidelityRow]) -> Group:
    named: list[tuple[str, list[str]]] = [
        ("workload", [row.workload for row in rows]),
        ("agents", [f"{row.agents} agents" for row in rows]),
        ("settings", [row.settings for row in rows]),
    ]
    constant = [texts[0] for _, texts in named if len(set(texts)) == 1 and texts[0]]
    columns = [
        *((name, texts) for name, texts in named if len(set(texts)) > 1),
        ("method", [row.method for row in rows]),
        ("turns", [f"{row.n_checked}/{row.n_turns}" if row.n_checked else "-" for row in rows]),
        ("KL\nfirst\ntoken", [value_of(row.kl_next_token, 3) for row in rows]),
        ("interval", [_span(row.kl_next_token) for row in rows]),
        ("KL\nfirst\n32", [value_of(row.kl_continuation, 3) for row in rows]),
        ("interval", [_span(row.kl_continuation) for row in rows]),
        ("greedy\nagrees", [_percent(row.greedy_agreement) for row in rows]),
        ("tokens\ncomputed", [_percent(row.computed_rate) for row in rows]),
        ("TTFT\nms", [_milliseconds(row.ttft_s) for row in rows]),
        ("TTFT\nitem\nms", [_milliseconds(row.conversation_ttft_s) for row in rows]),
    ]
    heading = f"{rows[0].sweep}: {', '.join([*constant, 'compared with dense on the same prompts'])}"
    note = "turns checked of all; 95 % intervals by item; TTFT: median of a turn, and sum over an item's turns"
    return Group(heading, note, *_noise(rows), column_table(columns, left=_NAMES))


def _noise(rows: Sequence[FidelityRow]) -> list[str]:
    """Say how far exact reuse is from dense. ``prefix`` computes what dense computes, in other pieces and batches, so
    its distance is that of rounding, and no method's distance means anything below it."""
    exact = [row.kl_next_token.value for row in rows if row.method == "prefix" and row.kl_next_token is not None]
    return [f"noise of rounding: prefix, which is exact, has a KL of up to {max(exact):.1e} nats"] if exact else []


def _place(row: FidelityRow) -> tuple[str, int, str]:
    return row.workload, row.agents, row.settings


def computed_rate(turns: pd.DataFrame) -> Estimate | None:
    """Return tokens computed over prompt tokens; None if the results do not count them."""
    if "computed_tokens" not in turns or turns.empty or turns["computed_tokens"].isna().any():
        return None
    return stats.ratio_of_sums(turns["computed_tokens"], turns["prompt_tokens"], turns["item"])


def conversation_ttft(arm: Arm) -> Estimate | None:
    """Return the TTFT summed over the turns of an item, mean over items, in seconds."""
    seconds = Conversations.of_arm(arm).ratio("ttft_sum_s")
    return None if seconds is None else seconds.estimate()


def _percent(rate: Estimate | None) -> str:
    return percent(None if rate is None else rate.value)


def _span(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "-"
    return f"{decimal(estimate.low)}-{decimal(estimate.high)}"


def _milliseconds(seconds: Estimate | None) -> str:
    """Format with three digits or more: an item takes seconds on a CPU, and a turn a few milliseconds on a GPU."""
    if seconds is None:
        return "-"
    value = 1000 * seconds.value
    return decimal(value, 0 if value >= 100 else 1)
