"""The tables of ``kvcomm show --arena``: arms, the best of each method within a budget, and the pairs told apart."""

from collections.abc import Mapping, Sequence

from rich.console import Group

from analysis.arena.budgets import BudgetRow, budget_rows
from analysis.arena.rows import ArenaRow, arena_rows, entries_of
from analysis.arena.separation import LEVEL, PairRow, pair_rows
from analysis.results import Results
from analysis.short_names import short_names
from analysis.stats import Estimate
from analysis.tables.rendering import column_table, decimal, percent, value_of
from analysis.tables.shown import Shown, Tables

_NAMES = ("arm", "budget", "lower KL", "higher KL")
_MEASURES = {"kl_next_token": "KL of the first token", "kl_continuation": "KL of the first 32 tokens"}
_NOTE = (
    "KL and agreement: mean over all turns, a dense turn has KL 0; *: no arm but a bound has less KL for as few "
    "tokens; a bound knows the true error; first 32: along dense's answer; last turn: of the agent who ends the "
    "conversation; judge: same pick as dense; balanced: without dense's preference for letters; warm-up: samples "
    "before the first without a dense turn; 95 % intervals by item; names say what tells the arms apart"
)


def make_arena(whole: Results, first: int = 0) -> Tables:
    """Build the tables of a folder from sample index ``first`` on. The warm-up is that of all samples.

    Raise ``ValueError`` if no trial has that sample, or if there is no graded trial.
    """
    results = whole.from_sample(first)
    situations = entries_of(results)
    rows = arena_rows(situations, whole.turns)
    if not rows:
        raise ValueError("given for results without a graded trial that ended well; allowed: results of such trials")
    pairs = [
        pair
        for situation, entries in situations.items()
        for measure in ("kl_next_token", "kl_continuation")
        for pair in pair_rows(situation, entries, measure)
    ]
    budgets = budget_rows(rows)
    tables = []
    names = short_names(row.arm for row in rows)
    for situation in dict.fromkeys(row.situation for row in rows):
        tables.append(render_arena([row for row in rows if row.situation == situation], names))
        within = [row for row in budgets if row.situation == situation]
        tables += [_render_budgets(within, names)] if within else []
        tables += [
            _render_pairs(own, names)
            for measure in _MEASURES
            if (own := [pair for pair in pairs if (pair.situation, pair.measure) == (situation, measure)])
        ]
    counts = [_counted(pairs, measure) for measure in _MEASURES]
    return Tables(
        (
            Shown("arena", rows, tables),
            Shown("budgets", budgets, []),
            Shown("pairs", pairs, []),
            Shown("pairs_separated", dict(zip(_MEASURES, counts, strict=True)), []),
        )
    )


def render_arena(rows: Sequence[ArenaRow], names: Mapping[str, str]) -> Group:
    """Render the arms of one situation by rising computed tokens; unknown values are dashes."""
    columns = [
        ("arm", [names[row.arm] for row in rows]),
        ("tokens\ncomputed", [_percent(row.computed_share) for row in rows]),
        ("KL\nfirst\ntoken", [value_of(row.kl_next_token, 4) + ("*" if row.on_front else "") for row in rows]),
        ("interval", [_span(row.kl_next_token, 4) for row in rows]),
        ("KL\nfirst\n32", [value_of(row.kl_continuation, 4) for row in rows]),
        ("interval", [_span(row.kl_continuation, 4) for row in rows]),
        ("greedy\nagrees", [_percent(row.greedy_agreement) for row in rows]),
        ("interval", [_percents(row.greedy_agreement) for row in rows]),
        ("last\nturn\nKL", [value_of(row.kl_last_turn, 4) for row in rows]),
        ("last\nturn\ncomputed", [_percent(row.computed_share_last_turn) for row in rows]),
        ("judge\nsame", [_percent(row.judge_consistency) for row in rows]),
        ("interval", [_percents(row.judge_consistency) for row in rows]),
        ("kappa", [value_of(row.judge_kappa, 2) for row in rows]),
        ("bal-\nanced", [_percent(row.judge_balanced) for row in rows]),
        ("TTFT\nms", [_milliseconds(row.ttft_s) for row in rows]),
        ("TTFT\nitem\nms", [_milliseconds(row.conversation_ttft_s) for row in rows]),
        ("interval", [_span_ms(row.conversation_ttft_s) for row in rows]),
        ("reuse\nturns", [percent(row.reuse_share) for row in rows]),
        ("pools\nMB", [decimal(None if row.pool_bytes is None else row.pool_bytes / 1e6, 1) for row in rows]),
        ("warm-up\nsamples", [decimal(row.warm_up_samples, 1) for row in rows]),
    ]
    return Group(f"{rows[0].situation}: {rows[0].n_items} items", _NOTE, column_table(columns, left=_NAMES))


def _render_budgets(rows: Sequence[BudgetRow], names: Mapping[str, str]) -> Group:
    columns = [
        ("budget", [percent(row.budget, 0) for row in rows]),
        ("arm", [names[row.arm] for row in rows]),
        ("tokens\ncomputed", [_percent(row.computed_share) for row in rows]),
        ("KL\nfirst\ntoken", [value_of(row.kl_next_token, 4) for row in rows]),
        ("interval", [_span(row.kl_next_token, 4) for row in rows]),
        ("KL\nfirst\n32", [value_of(row.kl_continuation, 4) for row in rows]),
        ("judge\nsame", [_percent(row.judge_consistency) for row in rows]),
    ]
    heading = "the arm of each method with the least KL of the first token, within a budget of computed tokens:"
    return Group(heading, column_table(columns, left=_NAMES))


def _render_pairs(rows: Sequence[PairRow], names: Mapping[str, str]) -> Group:
    """Render how many pairs are separated, and which are not. All of them are in the data."""
    found = _counted(rows, rows[0].measure)
    told = (
        f"{_MEASURES[rows[0].measure]}: {found['separated']} of {found['pairs']} pairs separated at {LEVEL:.0%}, by a "
        "sign-flip test over items, corrected by Holm"
    )
    same = [row for row in rows if not row.separated]
    if not same:
        return Group(f"{told}.")
    columns = [
        ("lower KL", [names[row.better] for row in same]),
        ("higher KL", [names[row.worse] for row in same]),
        ("difference", [value_of(row.difference, 4) for row in same]),
        ("interval", [_span(row.difference, 4) for row in same]),
        ("items", [str(row.n_items) for row in same]),
        ("p (Holm)", [decimal(row.p_holm, 4) for row in same]),
    ]
    return Group(f"{told}. Not separated:", column_table(columns, left=_NAMES))


def _counted(pairs: Sequence[PairRow], measure: str) -> dict[str, int]:
    own = [pair for pair in pairs if pair.measure == measure]
    return {"pairs": len(own), "separated": sum(pair.separated for pair in own)}


def _percent(estimate: Estimate | None) -> str:
    return percent(None if estimate is None else estimate.value)


def _span(estimate: Estimate | None, digits: int) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "-"
    dash = "-" if estimate.low >= 0 else " to "
    return f"{decimal(estimate.low, digits)}{dash}{decimal(estimate.high, digits)}"


def _percents(estimate: Estimate | None) -> str:
    return _span(None if estimate is None else estimate.scaled(100), 0)


def _milliseconds(seconds: Estimate | None) -> str:
    return "-" if seconds is None else decimal(1000 * seconds.value, _digits(seconds))


def _span_ms(seconds: Estimate | None) -> str:
    return _span(None if seconds is None else seconds.scaled(1000), 0 if seconds is None else _digits(seconds))


def _digits(seconds: Estimate) -> int:
    """Return the decimals of milliseconds: three digits or more, since turns take seconds or a few milliseconds."""
    return 0 if seconds.value >= 0.1 else 1
