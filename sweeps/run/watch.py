"""Which replicas are stuck: those that give no sign of life, and those that get on with nothing.

A process that is stopped, or hangs with Python's lock held, sends no heartbeat. One that hangs otherwise does, but its
samples stay away. Time is that in which the controller itself ran and was told news, so that a machine that was
suspended, or a controller that was stopped, blames nobody.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.replica import News
from sweeps.run.trial_queue import ModelKey

_LONGEST_STEP_S = 5.0
"""What a longer pause between two looks counts as: the controller did not run, or was busy."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a replica may take, in seconds. Each is far beyond what was ever seen, since a mistake costs a trial."""

    heartbeat_s: float = 120.0
    """Between two signs of life, which come every few seconds: a machine that swaps, or a file system that is away for
    a minute, is no reason to begin again."""
    heartbeat_loading_s: float = 600.0
    """The same while it starts or loads a model: what reads libraries and weights may hold Python's lock."""
    start_s: float = 1800.0
    """From the first sign of life until it is ready: libraries are imported, at worst from a slow network disk."""
    load_s: float = 4 * 3600.0
    """To load a model, which may have to be fetched first: 140 GB at 10 MB/s."""
    first_sample_s: float = 2 * 3600.0
    """From then on to the first sample, with whatever fills the pools of a timing: a model of 8B on a CPU takes minutes
    over a prompt."""
    sample_s: float = 900.0
    """Between two samples, at the least: a tool, a fetch or a checkpoint may hold one of them."""
    times: float = 10.0
    """Nor less than so many times the longest that a sample of the model has taken in this run."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """What is wrong with a replica."""

    status: Literal["killed", "timeout"]
    """``killed`` if it gives no sign of life, ``timeout`` if it does."""
    reason: str
    """In a sentence about "it"."""


class RunningClock:
    """Seconds that pass while somebody looks."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._last = now, now()
        self.seconds = 0.0
        """Since the first look; a pause counts as a few seconds."""

    def look(self) -> None:
        """Let the time since the last look pass."""
        now = self._now()
        self.seconds += min(now - self._last, _LONGEST_STEP_S)
        self._last = now


@dataclass(slots=True)
class _Watched:
    """A replica's process."""

    start: int
    """Its number among those that were asked for in its slot."""
    heartbeat: int | None = None
    """The last one; None before the first, when it may still wait for room."""
    alive_s: float = 0.0
    """When that was news."""
    ready: bool = False
    began_s: float = 0.0
    """When it showed first or, once it has a trial, when that trial, its model or a sample of it was last news."""
    model: ModelKey | None = None
    """Of its trial, the last one; None before the first."""
    loaded: bool = False
    samples: int = 0
    """That it has done of the trial."""
    position: tuple[str, int, int | None] | None = None


class Watch:
    """The replicas of a stage, by the numbers of their slots."""

    def __init__(self, patience: Patience, now: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience, RunningClock(now)
        self._watched: dict[int, _Watched] = {}
        self._longest_s: dict[ModelKey, float] = {}
        """That a sample took."""

    def asked_for(self, replica: int, start: int) -> None:
        """A new process is to come in a slot; nothing more is expected of an earlier one."""
        self._watched[replica] = _Watched(start, began_s=self._clock.seconds)

    def ended(self, replica: int) -> None:
        """There is no process, nor one to come."""
        self._watched.pop(replica, None)

    def ready(self, replica: int) -> None:
        """It can be given a trial."""
        self._watched[replica].ready, self._watched[replica].alive_s = True, self._clock.seconds

    def given(self, replica: int, model: ModelKey) -> None:
        """It has been given a trial."""
        watched = self._watched[replica]
        watched.model, watched.loaded, watched.samples = model, False, 0
        watched.began_s = self._clock.seconds

    def hear(self, news: dict[int, News]) -> None:
        """Everything that the replicas have said so far, as it is known now."""
        self._clock.look()
        now = self._clock.seconds
        for replica, said in news.items():
            watched = self._watched.get(replica)
            if watched is None or said.start != watched.start:
                continue  # the last words of a process that has been replaced
            if said.heartbeat != watched.heartbeat:
                if watched.heartbeat is None and not watched.ready:
                    watched.began_s = now
                watched.heartbeat, watched.alive_s = said.heartbeat, now
            if said.position != watched.position:
                watched.position = said.position
                self._position(watched, said.position[1] if said.position else 0)

    def _position(self, watched: _Watched, samples: int) -> None:
        if watched.model is None:
            return
        now = self._clock.seconds
        if watched.loaded and samples > watched.samples:
            took = now - watched.began_s
            self._longest_s[watched.model] = max(took, self._longest_s.get(watched.model, 0.0))
        watched.loaded, watched.samples, watched.began_s = True, samples, now

    def stuck(self, replica: int, *, idle: bool) -> Stuck | None:
        """What is wrong with a replica; None if nothing is, as far as one can tell. ``idle``: it has no trial."""
        watched, patience = self._watched.get(replica), self._patience
        if watched is None or (watched.heartbeat is None and not watched.ready):
            return None  # whether it waits for room or starts, nobody knows
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
        """How long it may take over what it does, and what it failed to do if it takes longer."""
        patience = self._patience
        if not watched.ready or watched.model is None:
            return patience.start_s, "was not ready"
        if not watched.loaded:
            return patience.load_s, "had not loaded its model"
        longest = self._longest_s.get(watched.model)
        least = patience.sample_s if watched.samples else patience.first_sample_s
        so_far = f", where the longest so far took {longest:.1f} s," if longest is not None else ""
        return max(least, patience.times * (longest or 0.0)), f"ended no sample{so_far}"
