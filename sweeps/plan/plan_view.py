"""A plan as text, and as the document of ``--json``."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.cells import Cell, flatten, name_cells
from harness.spec import TrialSpec
from sweeps.plan.cost import Cost
from sweeps.plan.planning import Plan
from sweeps.plan.time_estimate import Estimate, estimate, spell_hours, spell_time
from sweeps.plan.topology_view import topologies_document

UNKNOWN = "unknown: no earlier records of the model; --calibrate measures"
"""The text for a trial whose time is unknown."""

_MOST_COLUMNS = 8


def print_plan(todo: Plan, console: Console) -> None:
    """Print the axes, the grid, a line per trial, what is left out, the total and what dominates it."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    for axis in todo.sweep.axes:
        say(axis)
    cells = name_cells([flatten(trial.to_dict()) for trial in todo.sweep.trials])
    grid = _grid(todo, cells)
    if grid is not None:
        console.print(grid, highlight=False)
        say("")
    seeds = {trial.seed for trial in todo.sweep.trials}
    heads = ("trial", "cell", "seed") if len(seeds) > 1 else ("trial", "cell")
    table = Table(*heads, "state", "prompt tokens", "output tokens", "time", box=None, pad_edge=False)
    for trial, cell in zip(todo.sweep.trials, cells, strict=True):
        cost = todo.costs.get(trial.trial_id)
        tokens = (f"{cost.prompt_tokens:,}", f"{cost.output_tokens:,}", _time(todo, trial)) if cost else ("", "", "")
        seed = [str(trial.seed)] if len(seeds) > 1 else []  # not part of a cell's name
        table.add_row(trial.trial_id, str(cell), *seed, _state(todo, trial), *tokens)
    console.print(table)
    for file in todo.damaged:
        say(f"damaged: {file.path}: {file.reason}; a run moves it aside")
    say_left_out(todo, console)
    say(summary(todo))
    if todo.pending:
        for line in _estimate_lines(todo, cells):
            say(line)


def plan_document(todo: Plan, results: Path) -> dict[str, object]:
    """Return the plan as plain data."""
    costs = list(todo.costs.values())
    whole = estimate(todo)
    return {
        "sweep": todo.sweep.name,
        "results": str(results),
        "replicas": todo.sweep.replicas,
        "axes": todo.sweep.axes,
        "n_trials": len(todo.sweep.trials),
        "n_done": len(todo.done),
        "n_taken": len(todo.taken),
        "n_pending": len(todo.pending),
        "n_left_out": len(todo.left_out),
        "missing": todo.missing,
        "damaged": {str(file.path): file.reason for file in todo.damaged},
        "prompt_tokens": sum(cost.prompt_tokens for cost in costs),
        "output_tokens": sum(cost.output_tokens for cost in costs),
        "estimate": None if whole is None else dataclasses.asdict(whole),
        "rates": {
            model: [dataclasses.asdict(one) | {"shares": _shares(one.shares)} for one in rates]
            for model, rates in todo.rates.models.items()
        },
        "topologies": topologies_document(todo.sweep),
        "trials": [
            {
                "trial_id": trial.trial_id,
                "state": _state(todo, trial),
                "cost": _cost(todo.costs[trial.trial_id]) if trial.trial_id in todo.costs else None,
                "spec": trial.to_dict(),
            }
            for trial in todo.sweep.trials
        ],
    }


def summary(todo: Plan) -> str:
    """Return one line on how much there is to do."""
    costs = todo.costs.values()
    tokens = (sum(cost.prompt_tokens for cost in costs), sum(cost.output_tokens for cost in costs))
    taken = f"{len(todo.taken)} done elsewhere, " if todo.taken else ""
    missing = f"{len(todo.left_out)} not to be run here, " if todo.left_out else ""
    return (
        f"{todo.sweep.name}: {len(todo.sweep.trials)} trials, {len(todo.done)} done, {taken}{missing}"
        f"{len(todo.pending)} to run on {todo.sweep.replicas} replica(s): up to {tokens[0]:,} prompt and "
        f"{tokens[1]:,} output tokens{_short_time(todo)}"
    )


def say_left_out(todo: Plan, console: Console) -> None:
    """Print one line per missing workload or model."""
    for name, reason in todo.missing.items():
        count = sum(name in (trial.workload.name, trial.model) for trial in todo.left_out)
        what = "left out" if name in todo.sweep.skip_if_missing else "missing here, and a run would stop for it"
        line = f"{what}, {count} trials: {reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _state(todo: Plan, trial: TrialSpec) -> str:
    if trial.trial_id in todo.costs:
        return "to run"
    for taken, finished in todo.taken:
        if taken == trial:
            return f"in {finished.folder.name}"
    if trial not in todo.left_out:
        return "done"
    return "left out" if trial.workload.name in todo.sweep.skip_if_missing else "missing"


def _time(todo: Plan, trial: TrialSpec) -> str:
    time = todo.costs[trial.trial_id].time
    return "?" if time is None else spell_time(time.low_s, time.high_s).removeprefix("about ")


def _grid(todo: Plan, cells: list[Cell]) -> Table | None:
    """Return a table of trial states with methods as columns and all else as rows; None if the sweep is no grid."""
    rows = list(dict.fromkeys(_row(cell) for cell in cells))
    columns = list(dict.fromkeys(cell.method for cell in cells))
    if len(rows) < 2 or not 2 <= len(columns) <= _MOST_COLUMNS:
        return None
    states: dict[tuple[str, str], list[str]] = {}
    for trial, cell in zip(todo.sweep.trials, cells, strict=True):
        state = _state(todo, trial)
        text = _time(todo, trial) if state == "to run" else state
        states.setdefault((_row(cell), cell.method), []).append(text)
    table = Table("", *columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(row, *("; ".join(states.get((row, column), ["-"])) for column in columns))
    return table


def _row(cell: Cell) -> str:
    return ", ".join(part for part in (cell.workload, f"{cell.agents} agents", cell.settings) if part)


def _short_time(todo: Plan) -> str:
    whole = estimate(todo)
    if whole is None or whole.n_unknown:
        return ""
    return f", {spell_time(whole.low_s, whole.high_s)} by {' and '.join(whole.sources)}"


def _estimate_lines(todo: Plan, cells: list[Cell]) -> list[str]:
    whole = estimate(todo)
    if whole is None:
        return [f"time: {UNKNOWN}"]
    unknown = f"; {whole.n_unknown} trials not counted, {UNKNOWN}" if whole.n_unknown else ""
    hours = spell_hours(whole.gpu_hours_low, whole.gpu_hours_high)
    names = {trial.trial_id: cell for trial, cell in zip(todo.sweep.trials, cells, strict=True)}
    return [
        f"time: {spell_time(whole.low_s, whole.high_s)}, and the loading of the model{unknown}",
        f"GPU hours: {'none, as measured on a CPU' if hours == '-' else hours}",
        f"of this time: {_spell_shares(whole)}; longest: {names[whole.longest]} "
        f"({spell_time(whole.longest_s, whole.longest_s)})",
    ]


def _spell_shares(whole: Estimate) -> str:
    texts = [
        ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005)
        for shares in (whole.by_method, whole.by_phase)
    ]
    return "; ".join(texts)


def _cost(cost: Cost) -> dict[str, object]:
    time = None if cost.time is None else dataclasses.asdict(cost.time)
    return {"prompt_tokens": cost.prompt_tokens, "output_tokens": cost.output_tokens, "time": time}


def _shares(shares: Mapping[tuple[bool, str], float]) -> dict[str, float]:
    return {f"{'timing ' if timing else ''}{method}": share for (timing, method), share in shares.items()}
