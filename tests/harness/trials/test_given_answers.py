"""Trials whose agents read dense answers, and judges that read given ones in batches."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import tiny_chat_model

from harness.results.trial_result import TrialResult
from harness.spec import AnswersName, TrialSpec
from harness.trials import given_answers
from harness.trials.runner import run_trial
from harness.workloads.judge import JudgeSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.models.proof import ModelIdentity

SPEC = TrialSpec(
    workload=RecallSpec(limit=5),
    agents=3,
    rounds=2,
    max_new_tokens=6,
    batch_size=2,
    fidelity=1.0,
    answers="dense",
)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return replace(tiny_chat_model(), identity=ModelIdentity(weights_digest="c" * 64))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(given_answers, "REFERENCE_CACHE", tmp_path / "references")
    return tmp_path / "references"


def run(spec: TrialSpec, model: LoadedModel) -> TrialResult:
    result = run_trial(spec, model)
    assert result.trial.error is None
    return result


def test_all_methods_read_the_prompts_of_dense(model: LoadedModel, cache: Path) -> None:
    """Catches prompts that hold a method's own answers, which would compare methods on different prompts, an answer of
    the decision agent that is dense's, and references that every arm takes again."""
    plain = run(replace(SPEC, method="dense", answers="own", fidelity=0.0), model)
    prompts = [turn.prompt_sha256 for turn in plain.turns]
    files: set[Path] = set()
    for method in ("dense", "naive", "kvcomm"):
        result = run(replace(SPEC, method=method), model)
        assert [turn.prompt_sha256 for turn in result.turns] == prompts
        own = {(turn.round, turn.agent_index) for turn in result.turns if turn.stop_reason != "given"}
        assert own == {(1, 3)}
        reused = [turn for turn in result.turns if turn.mode == "reuse"]
        assert reused or method != "naive"
        for turn in reused:
            assert turn.kl_continuation is not None
            assert (turn.greedy_agreement is None) == (turn.stop_reason == "given")
        assert files in (set(), set(cache.iterdir()))
        files = set(cache.iterdir())
        assert any(turn.kl_next_token for turn in reused) or method != "naive"


@pytest.mark.parametrize("answers", ["own", "dense"])
def test_a_turn_that_falls_back_to_its_prefix_is_not_compared(model: LoadedModel, answers: AnswersName) -> None:
    """Catches exact turns that lower an arm's mean KL. With either fallback, the same turns are compared."""
    by_fallback = {}
    for fallback in ("dense", "prefix"):
        config = KVCommConfig(criterion="always", estimator="mean", fallback=fallback)
        spec = replace(SPEC, method="kvcomm", parameters=config, answers=answers)
        by_fallback[fallback] = run(spec, model)
    dense, prefix = by_fallback["dense"], by_fallback["prefix"]
    assert {turn.mode for turn in dense.turns if turn.arm == "kvcomm"} == {"dense", "reuse"}
    assert {turn.mode for turn in prefix.turns if turn.arm == "kvcomm"} == {"partial", "reuse"}
    for turn, other in zip(dense.turns, prefix.turns, strict=True):
        assert (turn.kl_next_token is None) == (other.kl_next_token is None)
    assert prefix.trial.kl_mean == pytest.approx(dense.trial.kl_mean, rel=1e-3)
    assert prefix.trial.turn_reuse_rate == dense.trial.turn_reuse_rate


def test_a_dense_trial_gives_its_plain_answers(model: LoadedModel) -> None:
    """Catches references whose answers differ from those that the same trial decodes."""
    plain = run(replace(SPEC, method="dense", answers="own", fidelity=0.0), model)
    followed = run(replace(SPEC, method="dense"), model)
    assert [turn.output_text for turn in followed.turns] == [turn.output_text for turn in plain.turns]


def test_judges_in_a_batch_pick_as_they_do_alone(model: LoadedModel) -> None:
    """Catches a candidate's KV at the place of another item's, where candidates differ in length."""
    alone = TrialSpec(workload=JudgeSpec(limit=6), agents=3, max_new_tokens=4, method="naive", fidelity=1.0)
    one, many = run(alone, model), run(replace(alone, batch_size=3), model)
    assert [turn.prompt_sha256 for turn in one.turns] == [turn.prompt_sha256 for turn in many.turns]
    assert [sample.extracted for sample in one.samples] == [sample.extracted for sample in many.samples]
    for single, batched in zip(one.turns, many.turns, strict=True):
        if single.kl_next_token is not None:
            assert batched.kl_next_token == pytest.approx(single.kl_next_token, rel=1e-2, abs=1e-5)


def test_trials_that_decode_no_answers_refuse_dense_ones() -> None:
    """Catches a timing that would silently ignore the field."""
    from harness.workloads.ttft import TtftSpec

    with pytest.raises(ValueError, match="answers is 'dense'; allowed: own, with workload ttft"):
        TrialSpec(workload=TtftSpec(), answers="dense")
