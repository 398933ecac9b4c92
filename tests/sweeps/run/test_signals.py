"""Signals as exceptions."""

import os
import signal

import pytest

from sweeps.run.signals import TerminatedError, ended_by_signals


class Deleted:
    """Sends its own process a signal when it is deleted, where Python drops exceptions."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        sum(range(10))  # some bytecode, between which the handler runs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError)])
def test_a_signal_that_is_lost_as_an_exception(number, error):
    """Catches Ctrl-C that goes unheard because it came at a bad moment, and a handler that stays."""
    went_on = []

    def work():
        with ended_by_signals() as check_signals:
            check_signals()
            victim = Deleted(number)
            del victim
            went_on.append(True)
            check_signals()

    earlier = signal.signal(number, signal.default_int_handler)  # not ignored, wherever the tests run
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            work()
    finally:
        left = signal.signal(number, earlier)
    assert caught.type is error
    assert went_on
    assert left is signal.default_int_handler


def test_what_is_ignored_stays_ignored():
    """Catches a sweep in the background that ends when Ctrl-C is meant for something else."""
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals() as check_signals:
            os.kill(os.getpid(), signal.SIGINT)
            check_signals()
    finally:
        found = signal.signal(signal.SIGINT, earlier)
    assert found is signal.SIG_IGN


def test_an_interrupt_in_place_of_ours():
    """Catches SIGTERM taken for Ctrl-C, as Ray has it when it is interrupted."""

    def work():
        with ended_by_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except TerminatedError:
                raise KeyboardInterrupt from None

    with pytest.raises(TerminatedError):
        work()
