"""The speed tables of ``ttft`` trials: by agent as in the paper's table 2, and by length as in its table 3.

Turns of different arms are paired within a trial by repeat and agent. A speedup is the median of the paired ratios. The
row ``all`` sums the agents, as ``speed_sums.py`` describes.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Group

from analysis.devices import others_cores
from analysis.results import Results, finished_cells
from analysis.tables.rendering import column_table, decimal, known, milliseconds, percent, times
from analysis.tables.shown import Shown
from analysis.tables.speed_sums import PHASES, SpeedSum, speed_sums
from analysis.tables.sweep_table import median

_TURN = ["trial_id", "sample_index", "agent_index"]
"""Columns that identify the same turn in all arms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow:
    """One agent of one cell. All seconds are medians over repeats and seeds. Unknown values are None."""

    sweep: str
    cell: str
    """Workload, agents, method and all other fields that vary within the sweep."""
    method: str
    prefix_tokens: int
    input_tokens: int
    output_tokens: int
    agent: int
    prompt_tokens: int
    n_turns: int
    """Number of timed turns of the method."""
    bare_s: float | None
    """Time of one forward pass of the model, without the engine."""
    dense_s: float | None
    prefix_s: float | None
    """None where ``prefix`` was not timed beside the method, like ``over_prefix``."""
    method_s: float | None
    phases_s: dict[str, float | None]
    """Seconds of the method by phase."""
    dense_over_bare: float | None
    """Median of the paired ratios dense / bare: the engine's overhead over a plain forward pass."""
    speedup: float | None
    """Median of the paired ratios dense / method; None for the method ``dense``."""
    over_prefix: float | None
    """Median of the paired ratios prefix / method."""
    exclusive: bool
    """Whether every trial had its machine to itself."""
    others_cpu_share: float | None
    """CPU seconds that other processes used per second of the trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedGrid:
    """Mean speedup over the agents of a cell, by prefix and output length, as in table 3."""

    sweep: str
    title: str
    prefix_tokens: tuple[int, ...]
    """Prefix lengths, one per column."""
    output_tokens: tuple[int, ...]
    """Output lengths, one per row."""
    speedups: tuple[tuple[float | None, ...], ...]
    """Speedups by row, then column; None if there is no such cell."""


def show_speed(results: Results) -> list[Shown]:
    """Return the tables of the timings, and the grids of those whose lengths vary."""
    rows, sums = speed_rows(results), speed_sums(results)
    grids = speed_grids(rows)
    return [
        Shown("speed", rows, render_speed(rows, sums)),
        Shown("speed_sums", sums, []),
        Shown("speed_grids", grids, render_grids(grids)),
    ]


def speed_rows(results: Results) -> list[SpeedRow]:
    """Return the rows of all finished ``ttft`` trials, by cell and agent."""
    return [
        _row(sweep, cell, trials, of_agent)
        for sweep, cell, trials, turns in finished_cells(results, "ttft", "turns")
        for _, of_agent in turns.groupby("agent_index")
    ]


def speed_grids(rows: Sequence[SpeedRow]) -> list[SpeedGrid]:
    """Return a grid for each set of cells that differ only in prefix or output length, if either varies."""
    families: dict[tuple[str, str, int], list[SpeedRow]] = {}
    for row in rows:
        if row.speedup is not None:
            families.setdefault((row.sweep, _without_lengths(row.cell), row.input_tokens), []).append(row)
    grids = []
    for (sweep, title, input_tokens), family in families.items():
        prefixes = tuple(sorted({row.prefix_tokens for row in family}))
        outputs = tuple(sorted({row.output_tokens for row in family}))
        if len(prefixes) * len(outputs) > 1:
            speedups = tuple(tuple(_mean_speedup(family, prefix, output) for prefix in prefixes) for output in outputs)
            title = f"{title}, input {input_tokens}"
            grids.append(
                SpeedGrid(sweep=sweep, title=title, prefix_tokens=prefixes, output_tokens=outputs, speedups=speedups)
            )
    return grids


def render_speed(rows: Sequence[SpeedRow], sums: Sequence[SpeedSum]) -> list[Group]:
    """Render one table per cell, with times in milliseconds: a row per agent, then the sum of all."""
    tables = []
    for whole in sums:
        agents = [row for row in rows if (row.sweep, row.cell) == (whole.sweep, whole.cell)]
        own: list[SpeedRow | SpeedSum] = [*agents, whole]
        phases = [phase for phase in PHASES if any(row.phases_s[phase] for row in own)]
        columns = [
            ("agent", [*(str(row.agent) for row in agents), "all"]),
            ("prompt\ntokens", [str(row.prompt_tokens) for row in own]),
            ("bare\nms", [milliseconds(row.bare_s) for row in own]),
            ("dense\nms", [milliseconds(row.dense_s) for row in own]),
            ("prefix\nms", [milliseconds(row.prefix_s) for row in own]),
            (f"{agents[0].method}\nms", [milliseconds(row.method_s) for row in own]),
            *((f"{phase}\nms", [milliseconds(row.phases_s[phase]) for row in own]) for phase in phases),
            ("dense\n/bare", [decimal(row.dense_over_bare, 2) for row in own]),
            ("speed\nup", [times(row.speedup) for row in own]),
            ("over\nprefix", [times(row.over_prefix) for row in own]),
        ]
        tables.append(Group(f"{whole.sweep}: {whole.cell}", *_conditions(agents, whole), column_table(known(columns))))
    return tables


def render_grids(grids: Sequence[SpeedGrid]) -> list[Group]:
    """Render one table per grid: rows are output lengths, columns are prefix lengths."""
    tables = []
    for grid in grids:
        columns = [("output \\ prefix", list(map(str, grid.output_tokens)))]
        for prefix, speedups in zip(grid.prefix_tokens, zip(*grid.speedups, strict=True), strict=True):
            columns.append((str(prefix), list(map(times, speedups))))
        tables.append(Group(f"{grid.sweep}: {grid.title}", "mean speedup over agents", column_table(columns)))
    return tables


def _row(sweep: str, cell: str, trials: pd.DataFrame, turns: pd.DataFrame) -> SpeedRow:
    method, workload = str(trials["method"].iloc[0]), json.loads(trials["spec_json"].iloc[0])["workload"]
    arms = {str(arm): group for arm, group in turns.groupby("arm")}
    own, prefix = arms[method], None if method == "prefix" else arms.get("prefix")
    return SpeedRow(
        sweep=sweep,
        cell=cell,
        method=method,
        prefix_tokens=workload["prefix_tokens"],
        input_tokens=workload["input_tokens"],
        output_tokens=workload["output_tokens"],
        agent=int(own["agent_index"].iloc[0]),
        prompt_tokens=int(own["prompt_tokens"].iloc[0]),
        n_turns=len(own),
        bare_s=median(arms["bare"]["ttft_s"]),
        dense_s=median(arms["dense"]["ttft_s"]),
        prefix_s=median(prefix["ttft_s"]) if prefix is not None else None,
        method_s=median(own["ttft_s"]),
        phases_s={phase: median(own[f"phase_{phase}_s"]) for phase in PHASES},
        dense_over_bare=_paired(arms["dense"], arms["bare"]),
        speedup=None if method == "dense" else _paired(arms["dense"], own),
        over_prefix=_paired(prefix, own) if prefix is not None else None,
        exclusive=bool(trials["exclusive"].all()),
        others_cpu_share=others_cores(trials),
    )


def _paired(slower: pd.DataFrame, faster: pd.DataFrame) -> float | None:
    needed = [*_TURN, "ttft_s"]  # joining all columns would take most of the time
    pairs = slower[needed].merge(faster[needed], on=_TURN, suffixes=("_slower", "_faster"))
    return median(pairs["ttft_s_slower"] / pairs["ttft_s_faster"])


def _mean_speedup(rows: Sequence[SpeedRow], prefix: int, output: int) -> float | None:
    cell = [row.speedup for row in rows if (row.prefix_tokens, row.output_tokens) == (prefix, output)]
    known = [speedup for speedup in cell if speedup is not None]
    return sum(known) / len(known) if known else None


def _without_lengths(cell: str) -> str:
    words = [word for word in cell.split(" ") if not word.startswith(("prefix_tokens=", "output_tokens="))]
    return " ".join(words)


def _conditions(rows: Sequence[SpeedRow], whole: SpeedSum) -> Iterator[str]:
    alone = "one trial at a time" if rows[0].exclusive else "trials side by side"
    share = rows[0].others_cpu_share
    others = "" if share is None else f", {share:.2f} cores used by other processes"
    yield f"medians of {rows[0].n_turns} turns, {alone}{others}"
    yield f"all: summed over the agents, mean of {whole.n_samples} samples; speedups of sums"
    if whole.latency_s is None:
        yield "answers were given, not decoded: a whole conversation also takes the time of decoding them"
    else:
        gained = "" if whole.latency_speedup is None else f", a speedup of {times(whole.latency_speedup)}"
        decoding = percent(whole.decode_share, 0)
        yield f"with decoding ({decoding} of it), a sample takes {whole.latency_s:.1f} s{gained}"
