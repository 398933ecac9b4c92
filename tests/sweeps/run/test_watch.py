"""Which replicas are stuck, by a clock that the test turns."""

import pytest

from harness.replica import Board, News
from sweeps.run.watch import Patience, RunningClock, Watch

PATIENCE = Patience(
    heartbeat_s=20, heartbeat_loading_s=40, start_s=100, load_s=200, first_sample_s=150, sample_s=60, times=10
)
MODEL = ("m", "float32")


class Turning:
    """A watch over replica 0, whose news and time the test makes."""

    def __init__(self):
        self.now = 1000.0
        self.watch = Watch(PATIENCE, lambda: self.now)
        self.heartbeat = 0
        self.position = None
        self.idle = False
        self.watch.asked_for(0, 7)

    def pass_s(self, seconds, *, alive=True, start=7):
        """Let time pass in steps of a second; what is wrong then, and when that showed."""
        for second in range(1, seconds + 1):
            self.now += 1
            self.heartbeat += alive
            self.watch.hear({0: News(start, self.heartbeat or None, self.position)})
            if stuck := self.watch.stuck(0, idle=self.idle):
                return second, stuck.status, stuck.reason
        return None

    def is_ready(self):
        self.pass_s(1)
        self.watch.ready(0)

    def trial(self, position=("t", 0, None)):
        self.is_ready()
        self.watch.given(0, "t", MODEL)
        self.position = position
        self.pass_s(1)


@pytest.fixture
def turning():
    return Turning()


def test_one_that_waits_for_room_is_not_stuck(turning):
    """Catches a replica ended, again and again, since its cluster has no node for it yet."""
    assert turning.pass_s(10**5, alive=False) is None


def test_a_start_that_does_not_end(turning):
    """Catches a process that begins to start and never is ready, alive or not."""
    assert turning.pass_s(1000) == (102, "timeout", "it was alive but was not ready for 100 s")
    turning.watch.asked_for(0, 8)
    assert turning.pass_s(1000, start=7) is None, "these are the words of the one before"
    turning.pass_s(1, start=8)
    found = turning.pass_s(1000, alive=False, start=8)
    assert found is not None
    assert found[:2] == (41, "killed")


def test_loading(turning):
    """Catches a download taken for a trial that hangs, and a download without an end."""
    turning.is_ready()
    turning.watch.given(0, "t", MODEL)
    assert turning.pass_s(39, alive=False) is None
    found = turning.pass_s(1000)
    assert found is not None
    assert found[1:] == ("timeout", "it was alive but had not loaded its model for 200 s")


def test_no_sign_of_life(turning):
    """Catches a stopped process that is waited for."""
    turning.trial()
    assert turning.pass_s(1000, alive=False) == (
        21,
        "killed",
        "it gave no sign of life for 20 s: its process was stopped, or hung",
    )


def test_an_idle_one(turning):
    """Catches a replica that is ended since it has nothing to do, and one that would be given a trial when stopped."""
    turning.trial()
    turning.idle = True
    assert turning.pass_s(10**4) is None
    assert turning.pass_s(21, alive=False) is not None


def test_samples_that_stay_away(turning):
    """Catches a limit that does not grow with what samples take, nor end; and a first sample held to that of others."""
    turning.trial()
    assert turning.pass_s(149) is None, "the first sample"
    turning.position = ("t", 1, 9)
    assert turning.pass_s(1499) is None, "the first took 150 s, as far as one saw"
    found = turning.pass_s(100)
    assert found is not None
    assert found[1] == "timeout"
    assert found[2].startswith("it was alive but ended no sample, where the longest so far took 150.0 s, for 15")


def test_short_samples(turning):
    """Catches a sample of 5 s, after many of 1 s, that ends its replica."""
    turning.trial()
    for done in range(1, 20):
        turning.position = ("t", done, 99)
        assert turning.pass_s(1) is None
    found = turning.pass_s(100)
    assert found is not None
    assert found[:2] == (61, "timeout")


def test_another_trial_begins_anew(turning):
    """Catches the samples of an earlier trial held against the next one."""
    turning.trial()
    turning.position = ("t", 5, 5)
    turning.pass_s(50)
    turning.watch.given(0, "u", MODEL)
    assert turning.pass_s(199) is None
    turning.position = ("u", 0, None)
    assert turning.pass_s(149) is None


def test_the_last_news_of_a_trial_come_late(turning):
    """Catches a model that counts as loaded since the end of the trial before was heard after the next one began."""
    turning.trial()
    turning.watch.given(0, "u", MODEL)
    turning.position = ("t", 9, 9)
    assert turning.pass_s(199) is None
    assert turning.pass_s(9) == (2, "timeout", "it was alive but had not loaded its model for 200 s")


def test_a_controller_that_did_not_run(turning):
    """Catches every replica ended after a machine was suspended, or the controller stopped: nobody was heard, but
    nobody listened either."""
    turning.trial()
    turning.now += 10**5
    assert turning.pass_s(10, alive=False) is None
    assert turning.pass_s(5) is None
    clock = RunningClock(lambda: turning.now)
    turning.now += 3
    clock.look()
    turning.now += 10**5
    clock.look()
    assert clock.seconds == 8


def test_the_board_knows_processes_apart():
    """Catches the last words of a replica that was replaced, taken for those of the new one."""
    board = Board()
    board.beat(0, 1, 5)
    board.post(0, 1, "t", 2, 9)
    assert board.read() == {0: News(1, 5, ("t", 2, 9))}
    board.beat(0, 3, 1)
    board.post(0, 1, "t", 3, 9)
    board.beat(0, 1, 6)
    board.post(1, 2, "u", 0, None)
    assert board.read() == {0: News(3, 1), 1: News(2, None, ("u", 0, None))}
