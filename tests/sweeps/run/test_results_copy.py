"""The copy of results at a URI: it holds nobody up, and nothing is left out of it."""

import threading
import time
from types import SimpleNamespace

import pytest
from chaos_sweep import wait_until

from harness.results.parquet_files import StoreError
from sweeps.run import results_copy
from sweeps.run.results_copy import Copy


class Store:
    """A mirror whose store can be away or silent."""

    folder = "/cache"

    def __init__(self):
        self.there, self.here = set(), set()
        self.away, self.refused = False, 0
        self.answers = threading.Event()
        self.answers.set()

    def push(self, sweep):
        self.copied(set(self.here))

    def push_attempt(self, sweep, trial_id, attempt):
        self.copied({(trial_id, attempt)})

    def copied(self, attempts):
        assert self.answers.wait(30)
        if self.away:
            self.refused += 1
            raise StoreError("results at s3://bucket cannot be read or written: away")
        self.there |= attempts


def ended(store, copy, number):
    """Trial ``number`` is on disk."""
    store.here.add((f"t{number}", 1))
    copy.attempt(SimpleNamespace(trial_id=f"t{number}", attempt=1))


def test_a_store_that_does_not_answer_holds_no_trial_up():
    """Catches a controller that waits for S3 while its replicas stand idle, which a box with a lost link showed."""
    store, said = Store(), []
    copy = Copy(store, "s", said.append)
    store.answers.clear()
    for number in range(3):
        ended(store, copy, number)  # would take 30 s and fail in this thread
    assert store.there == set()
    store.answers.set()
    copy.finish()
    assert store.there == store.here == {("t0", 1), ("t1", 1), ("t2", 1)}
    assert said == []


def test_it_catches_up_after_a_time_away():
    """Catches an attempt that failed to be copied and never is, and a warning per attempt."""
    store, said = Store(), []
    copy = Copy(store, "s", said.append)
    store.away = True
    for number in range(3):
        ended(store, copy, number)
        wait_until(lambda number=number: store.refused > number, "an attempt to copy", 30)
    store.away = False
    ended(store, copy, 3)
    wait_until(lambda: store.there, "a copy", 30)
    copy.finish()
    assert store.there == store.here
    assert said == ["results at s3://bucket cannot be read or written: away; the sweep goes on in /cache"]


def test_the_end_says_if_the_copy_is_not_whole():
    """Catches a sweep that ends well although its results are on a machine that will go."""
    store = Store()
    copy = Copy(store, "s", lambda line: None)
    store.away = True
    ended(store, copy, 0)
    with pytest.raises(StoreError, match="away"):
        copy.finish()


def test_an_interrupted_sweep_does_not_wait_for_ever(monkeypatch):
    """Catches a job that is killed because it waits for its store, and a copy that is given up while it goes well."""
    store = Store()
    copy = Copy(store, "s", lambda line: None)
    ended(store, copy, 0)
    copy.break_off()
    assert store.there == {("t0", 1)}
    monkeypatch.setattr(results_copy, "LAST_WORDS_S", 0.05)
    other = Copy(store, "s", lambda line: None)
    store.answers.clear()
    ended(store, other, 1)
    began = time.monotonic()
    other.break_off()
    assert time.monotonic() - began < 20
    store.answers.set()
