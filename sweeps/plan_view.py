"""A plan as text, and as the document of ``--json``."""

import dataclasses
import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.cells import flatten, name_cells
from harness.spec import TrialSpec
from sweeps.plan import Plan
from sweeps.topology_view import topologies_document


def print_plan(todo: Plan, console: Console) -> None:
    """A line per axis of the sweep, one per trial, what is left out, and the sum."""
    for axis in todo.sweep.axes:
        console.print(axis, markup=False, highlight=False, soft_wrap=True)
    seeds = {trial.seed for trial in todo.sweep.trials}
    names = name_cells([flatten(trial.to_dict()) for trial in todo.sweep.trials])
    heads = ("trial", "cell", "seed") if len(seeds) > 1 else ("trial", "cell")
    table = Table(*heads, "state", "prompt tokens", "output tokens", box=None, pad_edge=False)
    for trial, name in zip(todo.sweep.trials, names, strict=True):
        cost = todo.costs.get(trial.trial_id)
        tokens = (f"{cost.prompt_tokens:,}", f"{cost.output_tokens:,}") if cost else ("", "")
        seed = [str(trial.seed)] if len(seeds) > 1 else []  # no part of a cell's name
        table.add_row(trial.trial_id, str(name), *seed, _state(todo, trial), *tokens)
    console.print(table)
    for file in todo.damaged:
        line = f"damaged: {file.path}: {file.reason}; a run moves it aside"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    say_left_out(todo, console)
    console.print(summary(todo), highlight=False, soft_wrap=True)


def plan_document(todo: Plan, results: Path) -> dict[str, object]:
    """The plan as plain data."""
    costs = list(todo.costs.values())
    return {
        "sweep": todo.sweep.name,
        "results": str(results),
        "replicas": todo.sweep.replicas,
        "axes": todo.sweep.axes,
        "n_trials": len(todo.sweep.trials),
        "n_done": len(todo.done),
        "n_pending": len(todo.pending),
        "n_left_out": len(todo.left_out),
        "missing": todo.missing,
        "damaged": {str(file.path): file.reason for file in todo.damaged},
        "prompt_tokens": sum(cost.prompt_tokens for cost in costs),
        "output_tokens": sum(cost.output_tokens for cost in costs),
        "seconds": _seconds(todo),
        "topologies": topologies_document(todo.sweep),
        "trials": [
            {
                "trial_id": trial.trial_id,
                "state": _state(todo, trial),
                "cost": dataclasses.asdict(todo.costs[trial.trial_id]) if trial.trial_id in todo.costs else None,
                "spec": trial.to_dict(),
            }
            for trial in todo.sweep.trials
        ],
    }


def _state(todo: Plan, trial: TrialSpec) -> str:
    if trial.trial_id in todo.costs:
        return "to run"
    return "left out" if trial in todo.left_out else "done"


def _seconds(todo: Plan) -> float | None:
    """On all replicas, as far as whole trials can be spread over them; None if any rate is unknown."""
    seconds = [cost.seconds for cost in todo.costs.values()]
    known = [value for value in seconds if value is not None]
    if len(known) < len(seconds):
        return None
    return max([sum(known) / todo.sweep.replicas, *known], default=0.0)


def summary(todo: Plan) -> str:
    """One line: how much there is to do, and how long it may take."""
    costs = todo.costs.values()
    tokens = (sum(cost.prompt_tokens for cost in costs), sum(cost.output_tokens for cost in costs))
    seconds = _seconds(todo)
    time = "" if seconds is None else f", about {math.ceil(seconds / 60)} min by earlier trials of the model"
    return (
        f"{todo.sweep.name}: {len(todo.sweep.trials)} trials, {len(todo.done)} done, {len(todo.pending)} to run on "
        f"{todo.sweep.replicas} replica(s): up to {tokens[0]:,} prompt and {tokens[1]:,} output tokens{time}"
    )


def say_left_out(todo: Plan, console: Console) -> None:
    """One line per workload whose data is missing."""
    for workload, reason in todo.missing.items():
        count = sum(trial.workload.name == workload for trial in todo.left_out)
        line = f"left out, {count} trials: {reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
