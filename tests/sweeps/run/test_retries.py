"""The retry rule, written out."""

import pytest

from sweeps.run.retries import MAX_TRIES, after_loss


@pytest.mark.parametrize("model_was_loaded", [True, False])
def test_a_trial_runs_again_until_its_last_try(model_was_loaded: bool) -> None:
    """Catches a trial that is given up a try early, or that kills replicas for ever."""
    decisions = [after_loss(tries, model_was_loaded=model_was_loaded) for tries in range(1, MAX_TRIES + 2)]
    last = "fail trial" if model_was_loaded else "fail model"
    assert decisions == ["retry"] * (MAX_TRIES - 1) + [last] * 2
