"""Trials that end once their interval is narrow enough: the rule, its coverage, and whole trials with it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t
from tiny_models import tiny_chat_model

from harness.results.checkpoint import Checkpoints
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.until import CONFIDENCE, SMALLEST, accuracy_half_width, ended_early, kl_half_width
from harness.workloads.recall import RecallSpec
from kvcomm_core.models.loading import LoadedModel

SPEC = TrialSpec(
    method="naive", workload=RecallSpec(limit=80), agents=2, max_new_tokens=2, batch_size=4, fidelity=1.0, until_kl=9.0
)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


@pytest.fixture(scope="module")
def whole(model: LoadedModel) -> TrialResult:
    return run_trial(replace(SPEC, until_kl=None), model)


def test_the_interval_is_that_of_the_means_of_items(whole: TrialResult) -> None:
    """Catches turns counted as if they were independent, and items without a KL counted as 0."""
    means = {
        index: [turn.kl_next_token for turn in whole.turns if turn.sample_index == index and turn.kl_next_token]
        for index in range(80)
    }
    values = [sum(each) / len(each) for each in means.values() if each]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    expected = t.ppf(0.995, len(values) - 1) * spread / math.sqrt(len(values))
    assert kl_half_width(whole.turns) == pytest.approx(expected)
    assert kl_half_width(whole.turns[:2]) is None


@pytest.mark.parametrize(("right", "n"), [(0, 50), (25, 50), (380, 400), (1, 1)])
def test_the_interval_of_a_share_is_wilsons(right: int, n: int) -> None:
    """Catches the normal interval, which has no width where every answer is right. Wilson's ends solve
    |p - share| = z sqrt(p (1 - p) / n)."""
    share, z = right / n, 2.5758293
    ends = sorted(np.roots([1 + z**2 / n, -(2 * share + z**2 / n), share**2]).real)
    assert accuracy_half_width([True] * right + [False] * (n - right)) == pytest.approx((ends[1] - ends[0]) / 2)


def test_a_trial_ends_at_the_first_batch_that_is_enough(model: LoadedModel, whole: TrialResult) -> None:
    """Catches a trial that looks before the smallest number of items, one that looks only once, and other answers than
    those of the trial that goes on."""
    result = run_trial(SPEC, model)
    assert result.trial.n_samples == SMALLEST
    assert result.turns[0].prompt_sha256 == whole.turns[0].prompt_sha256
    known = f"KL to {width_at(whole, SMALLEST):.2g} nats (until_kl 9)"
    assert result.messages == [f"ended after {SMALLEST} items, which give {known}"]
    widths = {n: width_at(whole, n) for n in range(SMALLEST, 81, 4)}
    wanted = sorted(widths.values())[len(widths) // 2]
    result = run_trial(replace(SPEC, until_kl=wanted), model)
    assert result.trial.n_samples == min(n for n, width in widths.items() if width <= wanted)
    assert result.trial.n_samples > SMALLEST
    assert run_trial(replace(SPEC, until_kl=1e-9), model).trial.n_samples == 80


def width_at(result: TrialResult, n: int) -> float:
    width = kl_half_width([turn for turn in result.turns if turn.sample_index < n])
    assert width is not None
    return width


def test_both_limits_must_be_met_and_dense_takes_all_items(whole: TrialResult) -> None:
    """Catches a trial that ends as soon as one of two intervals is narrow, and a dense trial without the items that
    others are compared on."""
    both = replace(SPEC, until_accuracy=0.1)
    assert ended_early(both, whole.turns, whole.samples) is None
    assert ended_early(replace(both, until_accuracy=50.0), whole.turns, whole.samples) is not None
    assert ended_early(replace(SPEC, until_kl=None), whole.turns, whole.samples) is None
    assert ended_early(SPEC.dense_counterpart(), whole.turns, whole.samples) is None


def test_a_resumed_trial_ends_where_it_would_have_ended(model: LoadedModel, whole: TrialResult, tmp_path: Path) -> None:
    """Catches a rule that counts the items of this attempt alone."""

    class StoppedError(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done == 52:
            raise StoppedError

    spec = replace(SPEC, until_kl=width_at(whole, 60))
    expected = run_trial(spec, model)
    assert expected.trial.n_samples > 52
    checkpoints = Checkpoints(tmp_path, 1e-9)
    with pytest.raises(StoppedError):
        run_trial(spec, model, on_sample=stop, checkpoints=checkpoints)
    assert (tmp_path / "checkpoints" / spec.trial_id).exists()
    resumed = run_trial(spec, model, attempt=2, checkpoints=checkpoints)
    assert resumed.trial.n_samples == expected.trial.n_samples


def test_the_mean_lies_within_the_asked_distance_in_95_of_100_trials() -> None:
    """Catches an interval of 95 %, with which that holds in 87 of 100, since it is looked at so often."""
    generator = np.random.default_rng(5)
    n = np.arange(SMALLEST, 801, 8)
    factor = t.ppf((1 + CONFIDENCE) / 2, n - 1)
    mean = math.exp(0.5)
    wanted, held, runs = 0.2 * mean, 0, 800
    for _ in range(runs):
        values = generator.lognormal(0.0, 1.0, 800)
        means = np.cumsum(values)[n - 1] / n
        spread = np.sqrt((np.cumsum(values**2)[n - 1] - n * means**2) / (n - 1))
        enough = factor * spread / np.sqrt(n) <= wanted
        held += abs(means[enough.argmax() if enough.any() else -1] - mean) <= wanted
    assert held / runs > 0.945


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"until_kl": 0.0}, "until_kl is 0.0; allowed: above 0, or null for all items"),
        ({"until_accuracy": -1.0}, "until_accuracy is -1.0; allowed: above 0, or null for all items"),
        ({"shards": 2}, "until_kl is 9.0; allowed: null, with more than one shard"),
        ({"fidelity": 0.0}, "until_kl is 9.0; allowed: null, where fidelity is 0"),
    ],
)
def test_limits_without_meaning_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **fields)
