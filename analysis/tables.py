"""The table of a sweep: one row per cell, each reusing arm beside the dense arm it is compared with.

Timings have tables of their own (``analysis.speed``, ``analysis.blending``) and no rows here.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd
from rich.table import Table

from analysis.load import Records
from harness.cells import Cell, flatten, name_cells
from harness.spec import MethodName
from harness.workloads import TIMINGS

_TURN = ["pair", "sample_index", "item_id", "round", "agent_index"]
"""Names the same turn in both arms."""


_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One cell of a sweep. Unknown is None."""

    sweep: str
    workload: str
    agents: int
    method: str
    settings: str
    """Whatever else differs between the cells of the sweep."""
    n_ok: int
    n_total: int
    """Trials (seeds) that have been tried."""
    n_samples: int | None
    accuracy: float | None
    """Correct samples over samples, of all ok trials."""
    token_reuse_rate: float | None
    """Reused prompt tokens over prompt tokens."""
    turn_reuse_rate: float | None
    """Reuse turns over turns."""
    ttft_dense_s: float | None
    """Median. Dense arm: of all its turns. Other arms: of the dense turns their reusing turns are compared with."""
    ttft_reuse_s: float | None
    """Median over the turns that reused anything, all of the prompt or part of it."""
    speedup: float | None
    """Median over those turns of TTFT dense / TTFT reuse of the same item, round and agent."""
    n_pairs: int
    """Those of them that have such a dense turn."""
    samples_per_minute: float | None
    """Samples over the time that their turns took: to the first token, decoding and storing. A batch's time counts
    once."""
    n_checked: int
    """Turns that were compared with a dense turn on the same prompt; the fields below are means over them."""
    kl_next_token: float | None
    top1_rate: float | None
    greedy_agreement: float | None
    key_cosine: float | None
    value_cosine: float | None
    trial_ids: tuple[str, ...]


def cell_rows(records: Records) -> list[CellRow]:
    """The rows of all sweeps, the methods of one setting beside each other, dense first."""
    rows: list[CellRow] = []
    graded = records.trials[~records.trials["workload"].isin(TIMINGS)]
    for sweep, trials in graded.groupby("sweep", sort=False):
        turns, samples = (frame[frame["sweep"] == sweep] for frame in (records.turns, records.samples))
        rows += _rows_of_sweep(str(sweep), trials, turns, samples)
    return rows


def _rows_of_sweep(sweep: str, trials: pd.DataFrame, turns: pd.DataFrame, samples: pd.DataFrame) -> list[CellRow]:
    specs = [json.loads(text) for text in trials["spec_json"]]
    cells = name_cells([flatten(spec) for spec in specs])
    ids = list(trials["trial_id"])
    pair_of = dict(zip(ids, (_pair(spec) for spec in specs), strict=True))
    turns = turns.assign(pair=turns["trial_id"].map(pair_of))
    method_of = dict(zip(ids, trials["method"], strict=True))
    dense = turns[turns["trial_id"].map(method_of) == "dense"]
    by_cell: dict[Cell, list[str]] = {}
    for trial_id, cell in zip(ids, cells, strict=True):
        by_cell.setdefault(cell, []).append(trial_id)
    order = sorted(by_cell, key=_place)
    return [
        _row(
            sweep,
            cell,
            trials[trials["trial_id"].isin(by_cell[cell])],
            turns[turns["trial_id"].isin(by_cell[cell])],
            samples[samples["trial_id"].isin(by_cell[cell])],
            dense,
        )
        for cell in order
    ]


def _place(cell: Cell) -> tuple[object, ...]:
    """By setting, dense before what is compared with it, numbers by value: ``window=5`` before ``window=10``."""
    names = (cell.workload, cell.settings, str(cell.agents), "" if cell.method == "dense" else cell.method)
    return tuple(
        tuple((0.0, part) if odd % 2 == 0 else (float(part), "") for odd, part in enumerate(_NUMBER.split(name)))
        for name in names
    )


def _pair(spec: dict[str, Any]) -> str:
    """What a trial shares with the dense trial it is compared with: all but method, parameters and checks."""
    own = ("method", "fidelity", *get_args(MethodName))
    return json.dumps({key: value for key, value in spec.items() if key not in own}, sort_keys=True)


def _row(
    sweep: str, cell: Cell, trials: pd.DataFrame, turns: pd.DataFrame, samples: pd.DataFrame, dense: pd.DataFrame
) -> CellRow:
    ok = trials[trials["status"] == "ok"]
    reusing = turns[turns["mode"] != "dense"]
    pairs = reusing.merge(dense, on=_TURN, suffixes=("", "_dense"))
    is_dense = cell.method.split()[0] == "dense"
    return CellRow(
        sweep=sweep,
        workload=cell.workload,
        agents=cell.agents,
        method=cell.method,
        settings=cell.settings,
        n_ok=len(ok),
        n_total=len(trials),
        n_samples=len(samples) if len(ok) else None,
        accuracy=_ratio((samples["outcome"] == "correct").sum(), len(samples)),
        token_reuse_rate=_ratio(turns["reused_tokens"].sum(), turns["prompt_tokens"].sum()),
        turn_reuse_rate=_ratio((turns["mode"] == "reuse").sum(), len(turns)),
        ttft_dense_s=_median(turns["ttft_s"] if is_dense else pairs["ttft_s_dense"]),
        ttft_reuse_s=_median(reusing["ttft_s"]),
        speedup=_median(pairs["ttft_s_dense"] / pairs["ttft_s"]),
        n_pairs=len(pairs),
        samples_per_minute=_ratio(60.0 * len(samples), _busy_s(turns)),
        n_checked=int(turns["kl_next_token"].notna().sum()),
        kl_next_token=_mean(turns["kl_next_token"]),
        top1_rate=_mean(turns["top1_agree"]),
        greedy_agreement=_mean(turns["greedy_agreement"]),
        key_cosine=_mean(turns["key_cosine"]),
        value_cosine=_mean(turns["value_cosine"]),
        trial_ids=tuple(trials["trial_id"]),
    )


def _busy_s(turns: pd.DataFrame) -> float:
    """Seconds of all turns; those that were taken together have the same times, of which each has its share."""
    seconds = turns["ttft_s"] + turns["decode_s"] + turns["phase_store_s"]
    return float((seconds / turns["batch_size"]).sum())


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _median(values: "pd.Series[float]") -> float | None:
    return _known(values.median())


def _mean(values: "pd.Series[float]") -> float | None:
    """Over what is known."""
    known = values.dropna()
    return float(known.astype("float64").mean()) if len(known) else None


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def render_cells(rows: Sequence[CellRow]) -> Table:
    """The rows as a table for a terminal; unknown is a dash."""
    columns = [
        ("accuracy", [_percent(row.accuracy) for row in rows]),
        ("reuse\ntokens", [_percent(row.token_reuse_rate) for row in rows]),
        ("reuse\nturns", [_percent(row.turn_reuse_rate) for row in rows]),
        ("TTFT\ndense\nms", [_milliseconds(row.ttft_dense_s) for row in rows]),
        ("TTFT\nreuse\nms", [_milliseconds(row.ttft_reuse_s) for row in rows]),
        ("speed\nup", ["-" if row.speedup is None else f"{row.speedup:.2f}x" for row in rows]),
        ("items\n/min", [_decimal(row.samples_per_minute, 1) for row in rows]),
        ("ok", [f"{row.n_ok}/{row.n_total}" for row in rows]),
    ]
    return _table([*_names(rows), *columns])


def render_fidelity(rows: Sequence[CellRow]) -> Table:
    """How far the cells are from dense on the same prompts, those that were compared; unknown is a dash.

    Their TTFT and reuse stand beside it, and the dense arm's TTFT, where there is one.
    """
    shown = [row for row in rows if row.n_checked or row.method.split()[0] == "dense"]
    columns = [
        ("turns\nchecked", [str(row.n_checked) if row.n_checked else "-" for row in shown]),
        ("KL", [_decimal(row.kl_next_token) for row in shown]),
        ("top-1", [_percent(row.top1_rate) for row in shown]),
        ("greedy\nagrees", [_percent(row.greedy_agreement) for row in shown]),
        ("key\ncosine", [_decimal(row.key_cosine) for row in shown]),
        ("value\ncosine", [_decimal(row.value_cosine) for row in shown]),
        ("reuse\ntokens", [_percent(row.token_reuse_rate) for row in shown]),
        ("TTFT\nms", [_milliseconds(row.ttft_reuse_s if row.n_checked else row.ttft_dense_s) for row in shown]),
    ]
    return _table([*_names(shown), *columns])


def _names(rows: Sequence[CellRow]) -> list[tuple[str, list[str]]]:
    """The columns that tell the rows apart."""
    columns = [
        ("workload", [row.workload for row in rows]),
        ("agents", [str(row.agents) for row in rows]),
        ("method", [row.method for row in rows]),
    ]
    if any(row.settings for row in rows):
        columns.insert(0, ("settings", [row.settings for row in rows]))
    if len({row.sweep for row in rows}) > 1:
        columns.insert(0, ("sweep", [row.sweep for row in rows]))
    return columns


def _table(columns: Sequence[tuple[str, list[str]]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    height = max(header.count("\n") for header, _ in columns)
    for header, _ in columns:
        foot_aligned = "\n" * (height - header.count("\n")) + header
        if header in ("sweep", "settings", "workload", "method"):
            table.add_column(foot_aligned, overflow="fold")
        else:
            table.add_column(foot_aligned, justify="right", no_wrap=True)
    for cells in zip(*(values for _, values in columns), strict=True):
        table.add_row(*cells)
    return table


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f}%"


def _decimal(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.1f}"
