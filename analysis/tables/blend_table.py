"""The table of ``blend`` trials: cost of matching and blending by anchors and tokens, as in the paper's table A.5."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Group

from analysis.results import Results, finished_cells
from analysis.tables.rendering import column_table, decimal, known, milliseconds
from analysis.tables.shown import Shown
from harness.cells import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendRow:
    """One cell. Seconds are medians over repeats and seeds; gigabytes are 10^9 bytes read.

    A field is None if the trial has no such step.
    """

    sweep: str
    cell: str
    anchors: int
    tokens: int
    n_repeats: int
    kv_bytes: int
    """Bytes that blending reads: base KV and all offsets."""
    match_s: float | None
    fetch_s: float | None
    blend_s: float
    copy_s: float
    match_gb_per_s: float | None
    blend_gb_per_s: float
    copy_gb_per_s: float
    blend_over_copy: float
    """Median over repeats of blend time / copy time for the same bytes."""
    exclusive: bool


def show_blends(results: Results) -> list[Shown]:
    """Return the tables of the matching and blending timings."""
    rows = blend_rows(results)
    return [Shown("blending", rows, render_blends(rows))]


def blend_rows(results: Results) -> list[BlendRow]:
    """Return the rows of all finished ``blend`` trials, by tokens and anchors."""
    rows: list[BlendRow] = []
    for sweep, cell, trials, probes in finished_cells(results, "blend", "probes", _name):
        workloads = [json.loads(text)["workload"] for text in trials["spec_json"]]
        sized = trials.assign(anchors=[w["anchors"] for w in workloads], tokens=[w["tokens"] for w in workloads])
        for _, group in sized.groupby(["tokens", "anchors"]):
            own = probes[probes["trial_id"].isin(group["trial_id"])]
            rows.append(_row(sweep, cell, group, own))
    return rows


def _name(cell: Cell) -> str:
    """Leave out the fields that blend trials do not use."""
    return " ".join(part for part in (cell.method, cell.settings) if part)


def render_blends(rows: Sequence[BlendRow]) -> list[Group]:
    """Render one table per sweep and cell."""
    tables = []
    for sweep, cell in dict.fromkeys((row.sweep, row.cell) for row in rows):
        own = [row for row in rows if (row.sweep, row.cell) == (sweep, cell)]
        alone = "one trial at a time" if all(row.exclusive for row in own) else "trials side by side"
        conditions = f"medians of {own[0].n_repeats} repeats, {alone}; GB/s of KV read"
        columns = [
            ("tokens", [str(row.tokens) for row in own]),
            ("anchors", [str(row.anchors) for row in own]),
            ("KV\nMB", [f"{row.kv_bytes / 1e6:.0f}" for row in own]),
            ("match\nms", [milliseconds(row.match_s, 2) for row in own]),
            ("match\nGB/s", [decimal(row.match_gb_per_s, 2) for row in own]),
            ("fetch\nms", [milliseconds(row.fetch_s, 2) for row in own]),
            ("blend\nms", [milliseconds(row.blend_s, 2) for row in own]),
            ("blend\nGB/s", [decimal(row.blend_gb_per_s, 2) for row in own]),
            ("copy\nms", [milliseconds(row.copy_s, 2) for row in own]),
            ("copy\nGB/s", [decimal(row.copy_gb_per_s, 2) for row in own]),
            ("blend\n/copy", [decimal(row.blend_over_copy, 2) for row in own]),
        ]
        tables.append(Group(f"{sweep}: {cell}", conditions, column_table(known(columns))))
    return tables


def _row(sweep: str, cell: str, trials: pd.DataFrame, probes: pd.DataFrame) -> BlendRow:
    steps = {str(step): group for step, group in probes.groupby("step")}
    seconds = {step: float(group["seconds"].median()) for step, group in steps.items()}
    read = {step: int(group["bytes_read"].iloc[0]) for step, group in steps.items()}
    rate = {step: read[step] / seconds[step] / 1e9 for step in steps}
    pairs = steps["blend"].merge(steps["copy"], on=["trial_id", "repeat"], suffixes=("_blend", "_copy"))
    return BlendRow(
        sweep=sweep,
        cell=cell,
        anchors=int(trials["anchors"].iloc[0]),
        tokens=int(trials["tokens"].iloc[0]),
        n_repeats=len(steps["blend"]),
        kv_bytes=read["blend"],
        match_s=seconds.get("match"),
        fetch_s=seconds.get("fetch"),
        blend_s=seconds["blend"],
        copy_s=seconds["copy"],
        match_gb_per_s=rate.get("match"),
        blend_gb_per_s=rate["blend"],
        copy_gb_per_s=rate["copy"],
        blend_over_copy=float((pairs["seconds_blend"] / pairs["seconds_copy"]).median()),
        exclusive=bool(trials["exclusive"].all()),
    )
