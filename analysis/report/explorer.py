"""The cells as data for the explorer of the page: every measure of every cell with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.report.cells import Row
from analysis.report.compared_arms import Comparison
from analysis.stats import Estimate
from harness.text import displayed


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity that can be an axis of the explorer."""

    key: str
    label: str
    unit: str
    log: bool
    even: float | None
    """The value of no difference from the baseline, if it has one."""
    of: Callable[[Comparison], Estimate | None]


def _megabytes(arm: Comparison) -> Estimate | None:
    return arm.pool_gigabytes and arm.pool_gigabytes.scaled(1000)


MEASURES = (
    Measure("ttft_gain", "First tokens of an item, speedup over dense", "x", True, 1.0, lambda arm: arm.ttft_sum_gain),
    Measure("latency_gain", "Whole item, speedup over dense", "x", True, 1.0, lambda arm: arm.latency_gain),
    Measure("speedup", "Reusing turns, median speedup over dense", "x", True, 1.0, lambda arm: arm.speedup),
    Measure(
        "prefix_gain", "First tokens, speedup over prefix", "x", True, 1.0, lambda arm: arm.ttft_sum_gain_over_prefix
    ),
    Measure("ttft", "TTFT of a turn, mean", "ms", True, None, lambda arm: arm.ttft),
    Measure("ttft_sum", "TTFT of an item", "ms", True, None, lambda arm: arm.ttft_sum),
    Measure("latency", "Time of an item, decoding included", "s", True, None, lambda arm: arm.latency),
    Measure("accuracy", "Accuracy", "%", False, None, lambda arm: arm.accuracy),
    Measure("change", "Accuracy minus dense", "points", False, 0.0, lambda arm: arm.change),
    Measure("kl", "KL to dense, next token", "nats", True, None, lambda arm: arm.kl),
    Measure(
        "kl_continuation",
        "KL to dense, first tokens of the answer",
        "nats",
        True,
        None,
        lambda arm: arm.kl_continuation,
    ),
    Measure("memory", "Memory of the anchors, peak", "MB", True, None, _megabytes),
    Measure("turn_reuse", "Turns that reused every segment", "%", False, None, lambda arm: arm.turn_reuse),
    Measure("token_reuse", "Prompt tokens reused", "%", False, None, lambda arm: arm.token_reuse),
    Measure("decode_share", "Decoding's share of an item", "%", False, None, lambda arm: arm.decode_share),
    Measure("energy", "Energy of an item", "J", True, None, lambda arm: arm.energy),
)


def explorer_data(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the data of the explorer. Measures that no cell has are left out; unknown numbers are absent."""
    cells = [_cell(row) for row in rows]
    there = {key for cell in cells for key in cell["v"]}
    measures = [
        {"key": one.key, "label": one.label, "unit": one.unit, "log": one.log, "even": one.even}
        for one in MEASURES
        if one.key in there
    ]
    return {"measures": measures, "cells": cells}


def _cell(row: Row) -> dict[str, Any]:
    values = {}
    for measure in MEASURES:
        one = measure.of(row.arm)
        if one is not None:
            values[measure.key] = [_short(one.value), _short(one.low), _short(one.high), one.n, one.n_clusters]
    return {
        "sweep": displayed(row.sweep),
        "name": displayed(str(row.arm.cell)),
        "method": displayed(row.arm.method),
        "workload": displayed(row.arm.cell.workload.split()[0]),
        "agents": row.arm.cell.agents,
        "setting": displayed(f"{row.sweep}: {row.arm.cell.situation}"),
        "arm": displayed(row.arm.cell.method),
        "v": values,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
