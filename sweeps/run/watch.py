"""Detection of stuck replicas: those without a heartbeat, and those without progress.

A process that is stopped, or hangs while it holds the GIL, sends no heartbeat. One that hangs otherwise sends
heartbeats, but no samples. The clock counts only time in which the controller ran and received news, so a suspended
machine or a stopped controller condemns no replica.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.replica import News
from sweeps.run.trial_queue import ModelKey

_LONGEST_STEP_S = 5.0
"""Upper limit of the time counted between two looks: in a longer pause the controller did not run, or was busy."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits of a replica, in seconds. Each is far above any observed time, since a false alarm costs a trial."""

    heartbeat_s: float = 120.0
    """Longest gap between two heartbeats, which come every few seconds. A machine that swaps, or a file system that is
    away for a minute, is no reason to start again."""
    heartbeat_loading_s: float = 600.0
    """The same while a replica starts or loads a model: reading libraries and weights may hold the GIL."""
    start_s: float = 1800.0
    """From the first heartbeat until it is ready: it imports libraries, at worst from a slow network disk."""
    load_s: float = 4 * 3600.0
    """Time to load a model, which may include a download: 140 GB at 10 MB/s."""
    first_sample_s: float = 2 * 3600.0
    """From then to the first sample, which includes filling the pools of a timing: an 8B model on a CPU takes minutes
    per prompt."""
    sample_s: float = 900.0
    """Least limit for the time between two samples: a tool, a download or a checkpoint may delay a sample."""
    times: float = 10.0
    """The limit is also at least this many times the model's longest sample in this run."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """The fault of a replica."""

    status: Literal["killed", "timeout"]
    """``killed`` if it sends no heartbeat, ``timeout`` if it does."""
    reason: str
    """The problem as a sentence about "it"."""


class RunningClock:
    """A clock that runs only while somebody looks at it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._last = now, now()
        self.seconds = 0.0
        """Seconds since the first look; a pause counts as a few seconds."""

    def look(self) -> None:
        """Add the time since the last look."""
        now = self._now()
        self.seconds += min(now - self._last, _LONGEST_STEP_S)
        self._last = now


@dataclass(slots=True)
class _Watched:
    """A replica's process."""

    start: int
    """Its number among the processes requested for its slot."""
    heartbeat: int | None = None
    """The last heartbeat. None before the first, when it may still wait for room."""
    alive_s: float = 0.0
    """When the last heartbeat was news."""
    ready: bool = False
    began_s: float = 0.0
    """When it first showed. Once it has a trial: when the trial, its model or one of its samples was last news."""
    trial_id: str | None = None
    """Its latest trial. None before the first, like its model."""
    model: ModelKey | None = None
    loaded: bool = False
    samples: int = 0
    """Finished samples of the trial."""
    position: tuple[str, int, int | None] | None = None


class Watch:
    """The replicas of a stage, keyed by slot number."""

    def __init__(self, patience: Patience, now: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience, RunningClock(now)
        self._watched: dict[int, _Watched] = {}
        self._longest_s: dict[ModelKey, float] = {}
        """Longest time of a sample, keyed by model."""

    def asked_for(self, replica: int, start: int) -> None:
        """Expect a new process in a slot, and nothing more from an earlier one."""
        self._watched[replica] = _Watched(start, began_s=self._clock.seconds)

    def ended(self, replica: int) -> None:
        """Note that the slot has no process and expects none."""
        self._watched.pop(replica, None)

    def ready(self, replica: int) -> None:
        """Note that the replica is ready for a trial."""
        self._watched[replica].ready, self._watched[replica].alive_s = True, self._clock.seconds

    def given(self, replica: int, trial_id: str, model: ModelKey) -> None:
        """Note that the replica has been given a trial."""
        watched = self._watched[replica]
        watched.trial_id, watched.model, watched.loaded, watched.samples = trial_id, model, False, 0
        watched.began_s = self._clock.seconds

    def hear(self, news: dict[int, News]) -> None:
        """Take in the latest news of all replicas."""
        self._clock.look()
        now = self._clock.seconds
        for replica, said in news.items():
            watched = self._watched.get(replica)
            if watched is None or said.start != watched.start:
                continue  # the last news of a replaced process
            if said.heartbeat != watched.heartbeat:
                if watched.heartbeat is None and not watched.ready:
                    watched.began_s = now
                watched.heartbeat, watched.alive_s = said.heartbeat, now
            if said.position != watched.position:
                watched.position = said.position
                trial_id, samples, _ = said.position or (None, 0, None)
                self._position(watched, trial_id, samples)

    def _position(self, watched: _Watched, trial_id: str | None, samples: int) -> None:
        if watched.model is None or trial_id not in (None, watched.trial_id):
            return  # the last news of a trial arrive when the replica has been given the next one
        now = self._clock.seconds
        if watched.loaded and samples > watched.samples:
            took = now - watched.began_s
            self._longest_s[watched.model] = max(took, self._longest_s.get(watched.model, 0.0))
        watched.loaded, watched.samples, watched.began_s = True, samples, now

    def stuck(self, replica: int, *, idle: bool) -> Stuck | None:
        """Return what is wrong with a replica, or None if nothing seems wrong. ``idle`` if it has no trial."""
        watched, patience = self._watched.get(replica), self._patience
        if watched is None or (watched.heartbeat is None and not watched.ready):
            return None  # it may wait for room or be starting; nobody knows
        now = self._clock.seconds
        loading = not idle and not watched.loaded
        silence_s = patience.heartbeat_loading_s if loading else patience.heartbeat_s
        if now - watched.alive_s > silence_s:
            reason = f"it gave no sign of life for {silence_s:g} s: its process was stopped, or hung"
            return Stuck("killed", reason)
        limit_s, failing = self._limit(watched)
        if idle or now - watched.began_s <= limit_s:
            return None
        return Stuck("timeout", f"it was alive but {failing} for {limit_s:.0f} s")

    def _limit(self, watched: _Watched) -> tuple[float, str]:
        """Return the time limit of the current step, and what the replica failed to do if it takes longer."""
        patience = self._patience
        if not watched.ready or watched.model is None:
            return patience.start_s, "was not ready"
        if not watched.loaded:
            return patience.load_s, "had not loaded its model"
        longest = self._longest_s.get(watched.model)
        least = patience.sample_s if watched.samples else patience.first_sample_s
        so_far = f", where the longest so far took {longest:.1f} s," if longest is not None else ""
        return max(least, patience.times * (longest or 0.0)), f"ended no sample{so_far}"
