"""What a running sweep shows: a live table in a terminal, plain lines anywhere else."""

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.cells import Cell, flatten, name_cells
from harness.records import TrialResult
from harness.spec import TrialSpec
from sweeps.plan import Plan


@dataclass(slots=True)
class _Current:
    """What a replica is doing."""

    spec: TrialSpec
    began: float
    samples_done: int = 0
    samples_total: int | None = None

    @property
    def fraction(self) -> float:
        return self.samples_done / self.samples_total if self.samples_total else 0.0


class Progress:
    """Counts trials as they come and go, and draws. Use as a context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.ok = 0
        self.failed = 0
        self._console = console
        self._plan = plan
        self._work = {trial_id: _work(plan, trial_id) for trial_id in plan.costs}
        self._work_done = 0.0
        self._names = _names(plan)
        self._began = time.monotonic()
        self._running: dict[int, _Current] = {}
        self._live = (
            Live(get_renderable=self._draw, console=console, refresh_per_second=2) if console.is_terminal else None
        )

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def begin(self, replica: int, spec: TrialSpec) -> None:
        """A replica has been given a trial."""
        self._running[replica] = _Current(spec, time.monotonic())

    def samples(self, replica: int, trial_id: str, done: int, total: int) -> None:
        """A replica has finished ``done`` of ``total`` samples; old news of another trial is ignored."""
        current = self._running.get(replica)
        if current is not None and current.spec.trial_id == trial_id:
            current.samples_done, current.samples_total = done, total

    def attempt_ended(self, replica: int | None, result: TrialResult, *, final: bool) -> None:
        """An attempt has ended and is on disk; ``final`` if the trial is not tried again in this run."""
        current = self._running.pop(replica, None) if replica is not None else None
        row = result.trial
        seconds = f" in {time.monotonic() - current.began:.0f} s" if current else ""
        name = self._names[row.trial_id]
        if final:
            self._work_done += self._work[row.trial_id]
            self.ok += row.status == "ok"
            self.failed += row.status != "ok"
        if row.status == "ok":
            accuracy = "" if row.accuracy is None else f", accuracy {row.accuracy:.2f}"
            self.say(f"{self._count()} ok{seconds}: {name}{accuracy}", quiet_if_live=True)
        else:
            again = "" if final else "; trying again"
            self.say(f"{self._count()} {row.status}{seconds}: {name}: {last_line(row.error)}{again}")

    def say(self, line: str, *, quiet_if_live: bool = False) -> None:
        """Print one line; ``quiet_if_live`` if the live table shows it anyway."""
        if not (quiet_if_live and self._live):
            left = "" if self._live or not quiet_if_live else self._time_left()
            self._console.print(line + left, markup=False, highlight=False, soft_wrap=True)

    def _count(self) -> str:
        return f"[{self.ok + self.failed}/{len(self._plan.pending)}]"

    def _time_left(self) -> str:
        seconds = self.seconds_left()
        return f" ({_duration(seconds)} left)" if seconds else ""

    def seconds_left(self) -> float | None:
        """By the work done so far; None before there is any."""
        done = self._done()
        if not done:
            return None
        return (time.monotonic() - self._began) * (sum(self._work.values()) - done) / done

    def _done(self) -> float:
        running = self._running.values()
        return self._work_done + sum(current.fraction * self._work[current.spec.trial_id] for current in running)

    def _draw(self) -> RenderableType:
        total, elapsed = len(self._plan.pending), time.monotonic() - self._began
        ended = self.ok + self.failed
        left = self.seconds_left()
        counts = Table.grid(padding=(0, 2))
        counts.add_row(
            ProgressBar(total=sum(self._work.values()) or 1, completed=self._done(), width=24),
            f"{self.ok} done",
            f"{len(self._running)} running",
            Text(f"{self.failed} failed", style="red" if self.failed else ""),
            f"{total - ended - len(self._running)} to go",
        )
        times = f"{_duration(elapsed)} so far"
        times += f", {60 * ended / elapsed:.1f} trials/min" if ended else ""
        times += f", {_duration(left)} left" if left is not None else ""
        rows = Table.grid(padding=(0, 2))
        for replica, current in sorted(self._running.items()):
            total_samples = current.samples_total
            samples = f"sample {current.samples_done}/{total_samples}" if total_samples else "starting"
            rows.add_row(f"replica {replica}", self._names[current.spec.trial_id], samples)
        return Group(counts, times, rows)


def last_line(error: str | None) -> str:
    """The line of a traceback that says what happened."""
    lines = [line for line in (error or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason known"


def _work(plan: Plan, trial_id: str) -> float:
    # A token of output takes about as long as twenty of prompt.
    cost = plan.costs[trial_id]
    return cost.prompt_tokens + 20 * cost.output_tokens


def _names(plan: Plan) -> dict[str, str]:
    cells: list[Cell] = name_cells([flatten(trial.to_dict()) for trial in plan.sweep.trials])
    seeds = {trial.seed for trial in plan.sweep.trials}
    return {
        trial.trial_id: f"{cell}, seed {trial.seed}" if len(seeds) > 1 else str(cell)
        for trial, cell in zip(plan.sweep.trials, cells, strict=True)
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
