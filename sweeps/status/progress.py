"""The progress of a running sweep: a live table in a terminal, plain lines elsewhere, and snapshots for watchers."""

import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from harness.redaction import redact
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from sweeps.plan.planning import Plan
from sweeps.status.running_file import Snapshot, Working
from sweeps.wording import duration, say

_WATCH_S = 1.0
_LAST_FAILURES = 5
_LONGEST_REASON = 1000


@dataclass(slots=True)
class _Current:
    """The current work of a replica."""

    spec: TrialSpec
    began: float
    loaded: bool = False
    """Whether the replica has the model."""
    samples_done: int = 0
    samples_total: int | None = None

    @property
    def share(self) -> float:
        """The replica's share of the trial's work: it has one shard at a time."""
        return 1 / self.spec.shards

    @property
    def fraction(self) -> float:
        return self.samples_done / self.samples_total if self.samples_total else 0.0


class Progress:
    """Counts trials as they start and end, and displays the counts. Use as a context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.replicas = 0
        """Number of ready replicas."""
        self.wanted_replicas = 1
        self._by_status: Counter[str] = Counter()
        self._samples_done = 0
        self._failures: deque[str] = deque(maxlen=_LAST_FAILURES)
        self._console = console
        self._plan = plan
        self._work = {trial_id: cost.work for trial_id, cost in plan.costs.items()}
        self._all_work = sum(self._work.values())
        self._work_done = 0.0
        self._shards: dict[str, tuple[int, float]] = {}
        """Samples and work, already counted, of the ended shards of unfinished trials."""
        self._names = plan.names
        self._began, self._started_at = time.monotonic(), datetime.now(UTC)
        self._process_started_s = psutil.Process().create_time()
        self._running: dict[int, _Current] = {}
        self._watchers: list[Callable[[Snapshot], None]] = []
        self._watched = self._began
        self._live = (
            Live(get_renderable=self._draw, console=console, refresh_per_second=2) if console.is_terminal else None
        )

    @property
    def ok(self) -> int:
        """Trials that ended well."""
        return self._by_status["ok"]

    @property
    def failed(self) -> int:
        """Trials that failed and are not tried again in this run."""
        return sum(self._by_status.values()) - self.ok

    def add_watcher(self, watcher: Callable[[Snapshot], None]) -> None:
        """Call ``watcher`` with a snapshot now, from time to time, and at the end."""
        self._watchers.append(watcher)
        watcher(self.snapshot())

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        self._tell_watchers()

    def begin(self, replica: int, spec: TrialSpec) -> None:
        """Note that a replica has been given a trial."""
        self._running[replica] = _Current(spec, time.monotonic())
        self.replicas = max(self.replicas, len(self._running))
        self.tick()

    def samples(self, replica: int, trial_id: str, done: int, total: int | None) -> None:
        """Note that a replica has its model and ``done`` of ``total`` samples. Ignore news of an earlier trial."""
        current = self._running.get(replica)
        if current is not None and current.spec.trial_id == trial_id and done >= current.samples_done:
            self._samples_done += done - current.samples_done
            current.loaded, current.samples_done, current.samples_total = True, done, total
        self.tick()

    def tick(self) -> None:
        """Inform the watchers if it is time."""
        if time.monotonic() - self._watched >= _WATCH_S:
            self._tell_watchers()

    def shard_ended(self, replica: int, n_samples: int) -> None:
        """Note that a replica has finished a shard of its trial or, with no samples, was relieved of it."""
        current = self._running.pop(replica)
        if n_samples:
            samples, work = self._shards.get(current.spec.trial_id, (0, 0.0))
            done = current.share * self._work[current.spec.trial_id]
            self._shards[current.spec.trial_id] = samples + n_samples, work + done
            self._samples_done += n_samples - current.samples_done
            self._work_done += done
        self.tick()

    def attempt_ended(self, replica: int | None, result: TrialResult, *, final: bool) -> None:
        """Note that an attempt has ended and is on disk. ``final`` if the trial is not tried again in this run."""
        current = self._running.pop(replica, None) if replica is not None else None
        row = result.trial
        seconds = f" in {time.monotonic() - current.began:.0f} s" if current else ""
        name = self._names[row.trial_id]
        samples, work = 0, 0.0
        if final:
            samples, work = self._shards.pop(row.trial_id, (0, 0.0))
            self._work_done += self._work[row.trial_id] - work
            self._by_status[row.status] += 1
        if row.status == "ok":
            self._samples_done += len(result.samples) - samples - (current.samples_done if current else 0)
            accuracy = "" if row.accuracy is None else f", accuracy {row.accuracy:.2f}"
            self.say(f"{self._count()} ok{seconds}: {name}{accuracy}", quiet_if_live=True)
        else:
            again = "" if final else "; trying again"
            failure = f"{row.status}{seconds}: {name}: {last_line(row.error)}{again}"
            self._failures.append(failure)
            self.say(f"{self._count()} {failure}")
        self.tick()

    def say(self, line: str, *, quiet_if_live: bool = False) -> None:
        """Print one line. ``quiet_if_live`` omits it if the live table, which shows it anyway, is on."""
        if not (quiet_if_live and self._live):
            seconds = self.seconds_left() if quiet_if_live else None
            say(self._console, redact(line) + (f" ({duration(seconds)} left)" if seconds else ""))

    def _count(self) -> str:
        return f"[{self.ok + self.failed}/{len(self._plan.pending)}]"

    def seconds_left(self) -> float | None:
        """Estimate the seconds left from the work done so far. None before any is done."""
        done = self._done()
        if not done:
            return None
        return (time.monotonic() - self._began) * (self._all_work - done) / done

    def snapshot(self) -> Snapshot:
        """Return the displayed facts as data."""
        now, ended = time.monotonic(), self.ok + self.failed
        return Snapshot(
            sweep=self._plan.sweep.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_started_s=self._process_started_s,
            started_at=self._started_at,
            updated_at=datetime.now(UTC),
            n_to_run=len(self._plan.pending),
            n_by_status=dict(self._by_status),
            n_running=len({current.spec.trial_id for current in self._running.values()}),
            samples_done=self._samples_done,
            trials_per_minute=60 * ended / (now - self._began) if ended else None,
            seconds_left=self.seconds_left(),
            replicas_ready=self.replicas,
            replicas_wanted=self.wanted_replicas,
            working=tuple(
                Working(
                    replica=replica,
                    trial_id=current.spec.trial_id,
                    trial=self._names[current.spec.trial_id],
                    seconds=now - current.began,
                    samples_done=current.samples_done,
                    samples_total=current.samples_total,
                    loaded=current.loaded,
                )
                for replica, current in sorted(self._running.items())
            ),
            last_failures=tuple(self._failures),
        )

    def _tell_watchers(self) -> None:
        self._watched = time.monotonic()
        if self._watchers:
            snapshot = self.snapshot()
            for watcher in self._watchers:
                watcher(snapshot)

    def _done(self) -> float:
        running = self._running.values()
        return self._work_done + sum(
            current.fraction * current.share * self._work[current.spec.trial_id] for current in running
        )

    def _draw(self) -> RenderableType:
        bar = ProgressBar(total=self._all_work or 1, completed=self._done(), width=24)
        return Group(bar, *map(Text, self.snapshot().lines()))


def last_line(error: str | None) -> str:
    """Return the line of a traceback that says what happened. A very long line is cut, with the length of the rest."""
    lines = [line for line in (error or "").splitlines() if line.strip()]
    line = lines[-1].strip() if lines else "no reason known"
    left_out = len(line) - _LONGEST_REASON
    return line if left_out <= 0 else f"{line[:_LONGEST_REASON]} [{left_out} more characters]"
