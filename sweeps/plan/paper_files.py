"""The sweep files of the paper's tables and figures, and all of them at a glance: ``kvcomm plan --all``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from analysis.tables.rendering import row_table
from harness.natural_order import natural
from harness.spec import TrialSpec
from kvcomm_core.models.model_config import ModelError
from sweeps.language.strict_yaml import SweepError, read_sweep_file
from sweeps.language.sweep_spec import SweepSpec, load_sweep
from sweeps.plan.planning import Plan
from sweeps.plan.time_estimate import Estimate, estimate, spell_hours, spell_time
from sweeps.wording import say

FOLDER = Path(__file__).parents[1] / "paper"


def paper_files() -> list[Path]:
    """Return tables before figures, each in the paper's order, so that a file follows those whose trials it takes."""
    return sorted(FOLDER.glob("*.yaml"), key=lambda path: (path.stem.startswith("figure"), natural(path.stem)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The plan of one profile of one file, in numbers."""

    file: str
    profile: str | None
    error: str | None
    """Why the file could not be planned. None if it could."""
    n_trials: int = 0
    n_samples: int | None = 0
    """Items and timed repeats of all trials together. None if this depends on missing data."""
    n_done: int = 0
    """Trials with results, including those that other sweeps have finished for it."""
    n_shared: int = 0
    """Unfinished trials that an earlier file runs."""
    n_to_run: int = 0
    missing: tuple[str, ...] = ()
    """Why some trials cannot run here at present."""
    time: Estimate | None = None
    """Time of the trials to run. None if nothing is known about any of them."""


def overview(
    make_plan: Callable[[SweepSpec], Plan], profile: str | None, overrides: Sequence[str], limit: int | None
) -> Iterator[Line]:
    """Yield a line for each file of the paper with ``profile``, or for each profile of the file."""
    planned: dict[tuple[str | None, str], set[str]] = {}
    for path in paper_files():
        for chosen in [profile] if profile is not None else _profiles(path):
            try:
                todo = make_plan(load_sweep(path, overrides, limit, chosen))
            except (SweepError, ModelError) as error:
                yield Line(file=path.name, profile=chosen, error=str(error))
                continue
            unfinished = {trial.trial_id for trial in (*todo.pending, *todo.left_out)}
            shared = unfinished & set().union(*(planned.get((chosen, name), set()) for name in todo.sweep.take_from))
            planned[chosen, todo.sweep.name] = unfinished
            yield Line(
                file=path.name,
                profile=chosen,
                error=None,
                n_trials=len(todo.sweep.trials),
                n_samples=_samples(todo.sweep.trials),
                n_done=len(todo.done) + len(todo.taken),
                n_shared=len(shared),
                n_to_run=len(unfinished - shared),
                missing=tuple(todo.missing.values()),
                time=estimate(todo, [trial for trial in todo.pending if trial.trial_id not in shared]),
            )


def print_overview(lines: Sequence[Line], console: Console) -> None:
    """Print the lines, the sum of each profile, and what is missing."""
    heads = ("file", "profile", "trials", "samples", "done", "shared", "to run", "time", "GPU hours")
    rows = []
    for line in lines:
        cells = [*["-"] * 5, "cannot be planned", "-"] if line.error else _numbers([line])
        rows.append([line.file.removesuffix(".yaml"), line.profile or "-", *cells])
    for profile in dict.fromkeys(line.profile for line in lines):
        rows.append(["all", profile or "-", *_numbers([line for line in lines if line.profile == profile])])
    console.print(row_table(heads, rows, left=("file", "profile")), highlight=False)
    missing = dict.fromkeys(f"missing here: {reason.partition('. ')[0]}" for line in lines for reason in line.missing)
    say(console, *(line.error for line in lines if line.error), *missing)


def _numbers(lines: Sequence[Line]) -> list[str]:
    known = [line.time for line in lines if line.time is not None]
    n_to_run = sum(line.n_to_run for line in lines)
    n_unknown = n_to_run - sum(time.n_known for time in known)
    time = "unknown" if n_to_run else "-"
    if known:
        time = spell_time(sum(time.low_s for time in known), sum(time.high_s for time in known))
        time += f" + {n_unknown} unknown" if n_unknown else ""
    samples = [line.n_samples for line in lines]
    return [
        f"{sum(line.n_trials for line in lines):,}",
        "?" if None in samples else f"{sum(filter(None, samples)):,}",
        f"{sum(line.n_done for line in lines):,}",
        f"{sum(line.n_shared for line in lines):,}",
        f"{n_to_run:,}",
        time,
        spell_hours(sum(time.gpu_hours_low for time in known), sum(time.gpu_hours_high for time in known)),
    ]


def _samples(trials: Sequence[TrialSpec]) -> int | None:
    counts = [getattr(trial.workload, "limit", None) or getattr(trial.workload, "repeats", None) for trial in trials]
    return None if None in counts else sum(filter(None, counts))


def _profiles(path: Path) -> list[str | None]:
    try:
        profiles = read_sweep_file(path).get("profiles")
    except SweepError:
        return [None]
    return list(profiles) if isinstance(profiles, dict) else [None]
