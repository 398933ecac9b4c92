"""A plan as text, and as the document of ``--json``."""

from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.tables.rendering import row_table
from harness.cells import flatten, name_cells
from sweeps.plan.cost import Cost
from sweeps.plan.memory import does_not_fit, gb
from sweeps.plan.planning import Plan
from sweeps.plan.time_estimate import Estimate, estimate, spell_hours, spell_time
from sweeps.plan.topology_view import topologies_document
from sweeps.wording import say


def print_plan(todo: Plan, console: Console) -> None:
    """Print the axes, the grid, a line per trial, what is left out, the total and what dominates it."""
    say(console, *todo.sweep.axes)
    names, states = todo.names, _states(todo)
    grid = _grid(todo, states)
    if grid is not None:
        console.print(grid, highlight=False)
        say(console, "")
    rows = []
    for trial_id, name in names.items():
        cost = todo.costs.get(trial_id)
        tokens = (f"{cost.prompt_tokens:,}", f"{cost.output_tokens:,}", _time(cost)) if cost else ("", "", "")
        rows.append([trial_id, name, states[trial_id], *tokens])
    head = ("trial", "cell", "state", "prompt\ntokens", "output\ntokens", "time")
    console.print(row_table(head, rows, left=("trial", "cell")), highlight=False)
    say(console, *(f"damaged: {file.path}: {file.reason}; a run moves it aside" for file in todo.damaged))
    say_left_out(todo, console)
    say(console, summary(todo))
    say(console, *_memory(todo))
    whole = estimate(todo)
    if whole is not None:
        if whole.gpu_hours_high:
            say(console, f"GPU hours: {spell_hours(whole.gpu_hours_low, whole.gpu_hours_high)}")
        longest = f"{names[whole.longest]} ({spell_time(whole.longest_s, whole.longest_s)})"
        say(console, f"of this time: {_shares(whole)}; longest: {longest}")


def plan_document(todo: Plan, results: Path) -> dict[str, object]:
    """Return the plan as plain data."""
    states, whole = _states(todo), estimate(todo)
    costs = {trial_id: asdict(cost) for trial_id, cost in todo.costs.items()}
    memory = {trial_id: {**asdict(need), "total_bytes": need.total_bytes} for trial_id, need in todo.memory.items()}
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
        "prompt_tokens": sum(cost.prompt_tokens for cost in todo.costs.values()),
        "output_tokens": sum(cost.output_tokens for cost in todo.costs.values()),
        "estimate": None if whole is None else asdict(whole),
        "rates": todo.rates,
        "device": asdict(todo.device),
        "topologies": topologies_document(todo.sweep),
        "trials": [
            {
                "trial_id": trial.trial_id,
                "state": states[trial.trial_id],
                "cost": costs.get(trial.trial_id),
                "memory": memory.get(trial.trial_id),
                "spec": trial.to_dict(),
            }
            for trial in todo.sweep.trials
        ],
    }


def summary(todo: Plan) -> str:
    """Return one line on how much there is to do, and how long it takes."""
    taken = f"{len(todo.taken)} done elsewhere, " if todo.taken else ""
    missing = f"{len(todo.left_out)} not to be run here, " if todo.left_out else ""
    costs = todo.costs.values()
    return (
        f"{todo.sweep.name}: {len(todo.sweep.trials)} trials, {len(todo.done)} done, {taken}{missing}"
        f"{len(todo.pending)} to run on {todo.sweep.replicas} replica(s): "
        f"up to {sum(cost.prompt_tokens for cost in costs):,} prompt and "
        f"{sum(cost.output_tokens for cost in costs):,} output tokens{_time_in_all(todo)}"
    )


def say_left_out(todo: Plan, console: Console) -> None:
    """Print one line per missing workload or model."""
    for name, reason in todo.missing.items():
        count = sum(name in (trial.workload.name, trial.model) for trial in todo.left_out)
        what = "left out" if name in todo.sweep.skip_if_missing else "missing here, and a run would stop for it"
        say(console, f"{what}, {count} trials: {reason}")


def _states(todo: Plan) -> dict[str, str]:
    skipped = todo.sweep.skip_if_missing
    return {
        **{trial.trial_id: "done" for trial in todo.done},
        **dict.fromkeys(todo.costs, "to run"),
        **{trial_id: f"in {finished.folder.name}" for trial_id, finished in todo.taken.items()},
        **{trial.trial_id: "left out" if trial.workload.name in skipped else "missing" for trial in todo.left_out},
    }


def _grid(todo: Plan, states: dict[str, str]) -> Table | None:
    """Return a table of trial states with methods as columns and all else as rows; None if the sweep is no grid."""
    rows: dict[str, dict[str, list[str]]] = {}
    cells = name_cells([flatten(trial.to_dict()) for trial in todo.sweep.trials])
    for trial, cell in zip(todo.sweep.trials, cells, strict=True):
        cost = todo.costs.get(trial.trial_id)
        row = rows.setdefault(str(replace(cell, method="")), {})
        row.setdefault(cell.method, []).append(_time(cost) if cost else states[trial.trial_id])
    columns = list(dict.fromkeys(cell.method for cell in cells))
    if len(rows) < 2 or not 2 <= len(columns) <= 8:  # more would not fit
        return None
    times = [[name, *("; ".join(row.get(column, ["-"])) for column in columns)] for name, row in rows.items()]
    return row_table(["", *(column.replace(" ", "\n") for column in columns)], times, left=("",))


def _time(cost: Cost) -> str:
    if cost.low_s is None or cost.high_s is None:
        return "?"
    return spell_time(cost.low_s, cost.high_s).removeprefix("about ")


def _time_in_all(todo: Plan) -> str:
    whole = estimate(todo)
    if whole is None:
        unknown = "time unknown: no earlier trial of the model; kvcomm plan --calibrate measures it"
        return f", {unknown}" if todo.pending else ""
    uncounted = f", {whole.n_unknown} trials not counted" if whole.n_unknown else ""
    return f", {spell_time(whole.low_s, whole.high_s)} by {' and '.join(whole.sources)}{uncounted}"


def _memory(todo: Plan) -> list[str]:
    """Return a line on the trial that needs most memory, and one for each model that surely does not fit here."""
    if not todo.memory:
        return ["memory per replica: unknown"] if todo.pending else []
    largest = max(todo.memory, key=lambda trial_id: todo.memory[trial_id].total_bytes)
    need, free = todo.memory[largest], todo.device.free_bytes
    parts = f"weights {gb(need.weights_bytes)}, KV {gb(need.kv_bytes)}, pools up to {gb(need.pools_bytes)}"
    here = "unknown" if free is None else gb(free)
    lines = [
        f"memory per replica: up to {gb(need.total_bytes)} ({parts}, margin {gb(need.margin_bytes)}) for "
        f"{todo.names[largest]}; free on this machine's {todo.device.name}: {here}"
    ]
    refused = {
        trial.model: reason
        for trial in todo.pending
        if trial.trial_id in todo.memory
        and (reason := does_not_fit(trial, todo.memory[trial.trial_id], todo.device)) is not None
    }
    return [*lines, *(f"would not run here: {reason}" for reason in refused.values())]


def _shares(whole: Estimate) -> str:
    texts = [
        ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005)
        for shares in (whole.by_method, whole.by_phase)
    ]
    return "; ".join(texts)
