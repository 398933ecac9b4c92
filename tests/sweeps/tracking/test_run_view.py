"""What MLflow is told of an attempt, compared with hand-worked cases."""

import dataclasses
import json

import pytest

from harness.spec import TrialSpec
from sweeps.tracking import run_view

SPEC = TrialSpec(method="kvcomm", agents=2)


def view_of(result, **estimates):
    return run_view.view_of(result, "a name", estimates)


def curve(view, name):
    return {step: value for key, value, step in view.metrics if key == f"running/{name}"}


def test_curves_are_over_all_samples_so_far(make_result):
    """Catches curves of single samples, of the wrong denominator, and of turns that another arm took.

    Made up: even samples correct, the first all dense (0.2 s, 0 of 100 tokens), the others all reuse (0.1 s, 90).
    """
    result = make_result(SPEC, samples=4)
    stranger = dataclasses.replace(result.turns[0], arm="bare", ttft_s=99.0)
    view = view_of(dataclasses.replace(result, turns=[*result.turns, stranger]))
    assert curve(view, "accuracy") == {0: 1.0, 1: 0.5, 2: pytest.approx(2 / 3), 3: 0.5}
    assert curve(view, "token_reuse_rate") == pytest.approx({0: 0.0, 1: 0.45, 2: 0.6, 3: 0.675})
    assert curve(view, "turn_reuse_rate") == pytest.approx({0: 0.0, 1: 0.5, 2: 2 / 3, 3: 0.75})
    assert curve(view, "ttft_s_median") == pytest.approx({0: 0.2, 1: 0.15, 2: 0.1, 3: 0.1})


def test_a_curve_has_few_points_and_ends_with_the_last_sample(make_result, monkeypatch):
    """Catches tens of thousands of metric rows per run, and a last point that is not the trial's own total."""
    monkeypatch.setattr(run_view, "POINTS", 5)
    result = make_result(SPEC, samples=41)
    view = view_of(result)
    assert sorted(curve(view, "accuracy")) == [0, 10, 20, 30, 40]
    assert curve(view, "accuracy")[40] == result.trial.accuracy
    assert curve(view, "token_reuse_rate")[40] == pytest.approx(result.trial.token_reuse_rate)


def test_a_long_trial_fits_one_batch(make_result):
    """Catches a run that MLflow refuses: a batch holds 1,000 metrics, 100 params and 100 tags."""
    view = view_of(make_result(SPEC, samples=1500))
    assert len(view.metrics) <= 1000
    assert len(view.params) <= 100
    assert len(view.tags) <= 100


def test_a_failed_attempt_has_no_numbers(make_result):
    """Catches unknown metrics logged as 0, and an error that is not shown."""
    view = view_of(make_result(SPEC, status="error", attempt=3))
    assert [name for name, _, _ in view.metrics] == ["memory_peak_bytes", "duration_s"]
    assert view.status == "FAILED"
    assert view.tags["kvcomm.error"].endswith("ValueError: attempt 3 went wrong")
    assert view.dataset is None
    assert set(view.files) == {"spec.json"}
    well = view_of(make_result(SPEC))
    assert "kvcomm.error" not in well.tags
    assert "kvcomm.error" in well.absent_tags, "or it stays when a later attempt goes well"


def totals(view):
    return {name: value for name, value, _ in view.metrics if not name.startswith("running/")}


def test_totals_of_conversations_and_reasons(make_result):
    """Catches turns of another arm in a sum, a batch's time divided twice, a mean of ratios, and unknown logged as 0.

    Two items of two agents: a dense one of 2 x (0.2 + 1.0) s and a reusing one of 2 x (0.1 + 1.0) s.
    """
    result = make_result(SPEC)
    plain = totals(view_of(result))
    assert "energy_j" not in plain
    assert not [name for name in plain if name.startswith("no_reuse")]
    turns = [
        dataclasses.replace(
            turn,
            batch_size=2,
            anchors_in_pool=turn.sample_index,
            exact_prefix_tokens=None if turn.agent_index == 2 else 30,
            no_reuse_reason=None if turn.mode == "reuse" else ("cold", "too_long")[turn.agent_index - 1],
            no_reuse_placeholder=None if turn.mode == "reuse" else "user_question",
        )
        for turn in result.turns
    ]
    samples = [dataclasses.replace(one, energy_j=None if one.sample_index else 8.0) for one in result.samples]
    stranger = dataclasses.replace(turns[0], arm="bare", ttft_s=99.0, exact_prefix_tokens=99)
    row = dataclasses.replace(result.trial, exact_prefix_rate=0.3, estimated_rate=0.2, computed_tokens=150.0)
    found = totals(view_of(dataclasses.replace(result, trial=row, turns=[*turns, stranger], samples=samples)))
    accounts = ("exact_prefix_rate", "estimated_rate", "computed_tokens")
    assert not set(accounts) & plain.keys()
    assert [found[name] for name in accounts] == [0.3, 0.2, 150.0]
    assert found["ttft_sum_s"] == pytest.approx((0.4 + 0.2) / 2)
    assert found["latency_s"] == pytest.approx((2.4 + 2.2) / 2)
    assert found["decode_share"] == pytest.approx(4 / 4.6)
    assert found["items_per_minute"] == pytest.approx(60 * 2 / (4.6 / 2))
    assert found["energy_j"] == 8.0
    assert (found["no_reuse/cold"], found["no_reuse/too_long"]) == (0.25, 0.25)
    assert "no_reuse/refused" not in found


def test_what_is_unknown_or_infinite_is_not_logged(make_result):
    """Catches the largest float in place of infinity, and text that says None."""
    result = make_result(SPEC)
    row = dataclasses.replace(result.trial, computed_tokens=float("inf"), exact_prefix_rate=float("nan"))
    view = view_of(dataclasses.replace(result, trial=row), speedup=2.0)
    assert not {"computed_tokens", "exact_prefix_rate", "top1_rate"} & {name for name, _, _ in view.metrics}
    assert ("speedup", 2.0, 0) in view.metrics
    assert "kvcomm.top_k" not in view.params
    assert view.params["kvcomm.gamma"] == "0.3"


def test_data_sets_differ_with_their_items(make_result):
    """Catches runs on other questions that pass for comparable, and equal questions that do not."""
    short, long = (view_of(make_result(SPEC, samples=n)).dataset for n in (2, 3))
    dense = view_of(make_result(TrialSpec(agents=2), samples=2)).dataset
    assert short == dense
    assert short.digest != long.digest
    assert (short.name, len(short.digest)) == ("recall", 16)
    assert json.loads(short.source)["workload"]["name"] == "recall"
    assert json.loads(long.profile) == {"num_rows": 3}


def test_models_differ_with_their_weights(make_result):
    """Catches equal names for different weights, a name that MLflow refuses, and a model that was never loaded."""
    result = make_result(SPEC)

    def model(**fields):
        return view_of(dataclasses.replace(result, trial=dataclasses.replace(result.trial, **fields))).model

    one, other = (model(model="org/name@v1.0", weights_digest=digest * 64) for digest in "ab")
    assert one.name == other.name == "org-name-v1-0"
    assert one.digest != other.digest
    assert one.tags["weights_digest"] == "a" * 64
    assert view_of(make_result(SPEC, status="error")).model is None


def test_tables_have_every_row_and_plain_values(make_result):
    """Catches a table that MLflow's page cannot read."""
    result = make_result(SPEC, samples=3)
    view = view_of(result)
    samples, turns = (json.loads(view.files[name]) for name in ("samples.json", "turns.json"))
    assert [row[samples["columns"].index("outcome")] for row in samples["data"]] == ["correct", "wrong", "correct"]
    assert len(turns["data"]) == len(result.turns)
    assert all(len(row) == len(turns["columns"]) for row in turns["data"])
    assert {table["path"] for table in json.loads(view.tags["mlflow.loggedArtifacts"])} == {
        "samples.json",
        "turns.json",
    }
