"""The tables of replayed logs: what each method computes, how long it takes and how far it is from dense.

The turns of a method are paired with those of the dense trial of the same sweep: the same call of the same log. A
speedup is the median of the paired ratios, and, overall, the ratio of the sums, over all calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Group, RenderableType

from analysis.arms import Arm, arms_of
from analysis.results import Results
from analysis.tables.rendering import column_table, decimal, milliseconds, percent, times
from analysis.tables.shown import Shown
from analysis.tables.sweep_table import median
from harness.cells import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """A method's turns in one cell: all of them, or those of one agent. Unknown values are None."""

    sweep: str
    log: str
    """The workload, with the fields that vary within the sweep."""
    method: str
    settings: str
    """All other fields that vary."""
    agent: str | None
    """None for all agents."""
    n_turns: int
    n_dense: int
    """Turns of a method with templates that had none, and were therefore taken dense."""
    prompt_tokens: int
    computed: float | None
    """Tokens computed over prompt tokens; above 1 where base KV costs more than it saves."""
    exact_prefix: float | None
    """Share of the prompt tokens that an exact prefix cache would have saved, whatever the method."""
    ttft_s: float | None
    """Median over the turns."""
    speedup: float | None
    """Median over the turns of dense TTFT / TTFT for the same call."""
    overall: float | None
    """Sum of dense TTFT over the sum of TTFT, for the calls that both arms have."""
    n_checked: int
    """Turns compared with a dense turn on the same prompt; the next fields are about these."""
    kl_next_token: float | None
    """Mean KL of the next token, in nats."""
    top1_rate: float | None


def show_traces(results: Results) -> list[Shown]:
    """Return a table of the methods, and one of the agents, for each sweep that replayed logs."""
    rows = trace_rows(results)
    return [Shown("traces", rows, render_traces(rows))]


def trace_rows(results: Results) -> list[TraceRow]:
    """Return the rows of all finished ``trace`` trials: for each cell that of all agents, then those of each."""
    rows: list[TraceRow] = []
    for sweep in results.sweeps:
        own = results.of_sweep(sweep)
        trials = own.trials[(own.trials["workload"] == "trace") & (own.trials["status"] == "ok")]
        if trials.empty:
            continue
        for cell, arm in arms_of(own).by_cell(trials).items():
            rows.append(_row(sweep, cell, arm, None))
            agents = arm.turns.drop_duplicates("agent_index").sort_values("agent_index")
            for index, role in zip(agents["agent_index"], agents["agent_role"], strict=True):
                rows.append(_row(sweep, cell, arm.of_agent(int(index)), str(role)))
    return rows


def _row(sweep: str, cell: Cell, arm: Arm, agent: str | None) -> TraceRow:
    turns, pairs = arm.turns, arm.beside("dense")
    method = cell.method.split()[0]
    checked = turns[turns["kl_next_token"].notna()]
    prompts = int(turns["prompt_tokens"].sum())
    return TraceRow(
        sweep=sweep,
        log=cell.workload,
        method=cell.method,
        settings=cell.settings,
        agent=agent,
        n_turns=len(turns),
        n_dense=0 if method in ("dense", "prefix") else int(turns["template"].isna().sum()),
        prompt_tokens=prompts,
        computed=_over(turns["computed_tokens"], prompts),
        exact_prefix=_over(turns["exact_prefix_tokens"], prompts),
        ttft_s=median(turns["ttft_s"]),
        speedup=None if method == "dense" else median(pairs["ttft_s_dense"] / pairs["ttft_s"]),
        overall=None
        if method == "dense" or pairs.empty
        else float(pairs["ttft_s_dense"].sum() / pairs["ttft_s"].sum()),
        n_checked=len(checked),
        kl_next_token=_mean(checked["kl_next_token"]),
        top1_rate=_mean(checked["top1_agree"]),
    )


def render_traces(rows: Sequence[TraceRow]) -> list[RenderableType]:
    """Render the methods of each sweep, then their agents."""
    tables: list[RenderableType] = []
    for sweep in dict.fromkeys(row.sweep for row in rows):
        own = [row for row in rows if row.sweep == sweep]
        whole = [row for row in own if row.agent is None]
        dense = max(row.n_dense for row in whole)
        said = [f"{sweep}: {whole[0].n_turns} calls of a log; computed and prefix in percent of the prompt tokens"]
        if dense:
            said.append(f"up to {dense} calls had no template and were taken dense, except by prefix")
        tables.append(Group(*said, _table(whole)))
        tables.append(Group("by agent:", _table([row for row in own if row.agent is not None])))
    return tables


def _table(rows: Sequence[TraceRow]) -> RenderableType:
    columns = [
        ("method", [row.method for row in rows]),
        ("prompt\ntokens", [f"{row.prompt_tokens:,}" for row in rows]),
        ("com-\nputed", [percent(row.computed) for row in rows]),
        ("exact\nprefix", [percent(row.exact_prefix) for row in rows]),
        ("TTFT\nms", [milliseconds(row.ttft_s) for row in rows]),
        ("speed\nup", [times(row.speedup) for row in rows]),
        ("over\nall", [times(row.overall) for row in rows]),
        ("KL", [decimal(row.kl_next_token) for row in rows]),
        ("top-1", [percent(row.top1_rate) for row in rows]),
    ]
    for name, values in (
        ("agent", [row.agent or "" for row in rows]),
        ("settings", [row.settings for row in rows]),
        ("log", ["" if row.log == "trace" else row.log for row in rows]),
    ):
        if any(values):
            columns.insert(0, (name, values))
    return column_table(columns, left=("method", "agent", "settings", "log"))


def _over(tokens: "pd.Series[float]", prompts: int) -> float | None:
    """Return the sum of tokens over that of the prompts; None if one is not known."""
    return None if not prompts or tokens.isna().any() else float(tokens.sum()) / prompts


def _mean(values: "pd.Series[float]") -> float | None:
    return float(values.astype("float64").mean()) if len(values) else None
