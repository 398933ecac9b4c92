"""The copying of results to their URI while a sweep runs.

A thread copies, because a store that does not answer keeps its caller waiting for most of a minute, and meanwhile every
replica that ends a trial would stand idle.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from harness.results.parquet_files import StoreError
from harness.results.trial_result import TrialRow
from harness.results.uri_mirror import Mirror
from kvcomm_core.config import one_line

LAST_WORDS_S = 2.0
"""Seconds that an interrupted sweep waits for the copy of its last attempts: Ray kills a stopped job after three."""


class Copy:
    """The copy of one sweep. If it falls behind, it catches up later, at the latest at the end."""

    def __init__(self, mirror: Mirror, sweep: str, warn: Callable[[str], None]) -> None:
        """Copy what an earlier run left uncopied. Raises ``StoreError``. ``warn`` is called by a thread."""
        self._mirror, self._sweep, self._warn = mirror, sweep, warn
        self._attempts: SimpleQueue[tuple[str, int] | None] = SimpleQueue()
        self._behind = False
        mirror.push(sweep)
        self._thread = threading.Thread(target=self._work, name="copy", daemon=True)
        self._thread.start()

    def attempt(self, row: TrialRow) -> None:
        """Have an attempt copied that is on disk."""
        self._attempts.put((row.trial_id, row.attempt))

    def finish(self) -> None:
        """Wait until everything is copied. Raises ``StoreError``."""
        self._attempts.put(None)
        self._thread.join()
        self._mirror.push(self._sweep)  # what is behind, and the last attempts in the files that they have entered

    def break_off(self) -> None:
        """Wait for a moment. What is not copied then will be by the next run on this machine."""
        self._attempts.put(None)
        self._thread.join(LAST_WORDS_S)

    def _work(self) -> None:
        while (attempt := self._attempts.get()) is not None:
            later = self._waiting()
            try:
                if self._behind or any(later):
                    self._mirror.push(self._sweep)
                else:
                    self._mirror.push_attempt(self._sweep, *attempt)
            except Exception as error:  # noqa: BLE001 - whatever fails there, the sweep goes on
                reason = str(error) if isinstance(error, StoreError) else one_line(repr(error))
                if not self._behind:
                    self._warn(f"{reason}; the sweep goes on in {self._mirror.folder}")
                self._behind = True
            else:
                self._behind = False
            if None in later:
                return

    def _waiting(self) -> list[tuple[str, int] | None]:
        """Take what else is in the queue: one copy of everything that is missing covers it."""
        found = []
        while True:
            try:
                found.append(self._attempts.get_nowait())
            except Empty:
                return found
