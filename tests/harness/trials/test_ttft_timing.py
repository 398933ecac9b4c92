"""ttft trials on a tiny model: the arms, the order they come in, and pools that are really full."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_models import VOCABULARY, tiny_model

from harness.memory import MemoryMeter
from harness.spec import TrialSpec
from harness.trials import ttft_timing as ttft
from harness.trials.runner import run_trial
from harness.trials.trial_run import TrialRun
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.methods.baseline_config import CacheBlendConfig
from kvcomm_core.models.loading import LoadedModel

AGENTS, REPEATS, ANCHORS = 3, 4, 5
WORKLOAD = TtftSpec(prefix_tokens=9, input_tokens=12, output_tokens=6, anchors=ANCHORS, repeats=REPEATS)
DENSE = TrialSpec(agents=AGENTS, workload=WORKLOAD)
KVCOMM = replace(DENSE, method="kvcomm", parameters=KVCommConfig(gamma=1.0))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_model()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "mode"),
    [
        (KVCOMM, "reuse"),
        (replace(KVCOMM, parameters=KVCommConfig(criterion="length", estimator="mean")), "reuse"),
        (replace(KVCOMM, parameters=KVCommConfig(gamma=1.0, storage="int8", placement="host")), "reuse"),
        (replace(KVCOMM, parameters=KVCommConfig(gamma=1.0, fallback="partial")), "reuse"),
        (replace(KVCOMM, workload=replace(WORKLOAD, decode=True)), "reuse"),
        (replace(DENSE, method="naive"), "reuse"),
        (replace(DENSE, method="prefix"), "partial"),
        (replace(DENSE, method="cacheblend", parameters=CacheBlendConfig()), "partial"),
    ],
    ids=["l2_norm", "mean", "int8 host", "partial fallback", "decoded", "naive", "prefix", "cacheblend"],
)
def test_every_arm_takes_every_turn(model: LoadedModel, spec: TrialSpec, mode: str) -> None:
    """Catches a speedup whose two sides were not taken on prompts of one length, or in turns of another mode."""
    result = run_trial(spec, model, attempt=2)
    assert result.trial.error is None
    arms = {"dense": "dense", "bare": "dense", "prefix": "partial", spec.method: mode}
    expected = [(arm, r, a) for arm in arms for r in range(REPEATS) for a in range(1, AGENTS + 1)]
    assert sorted((t.arm, t.sample_index, t.agent_index) for t in result.turns) == sorted(expected)
    for turn in result.turns:
        assert turn.prompt_tokens == WORKLOAD.prompt_tokens(turn.agent_index)
        assert (turn.trial_id, turn.attempt, turn.mode) == (spec.trial_id, 2, arms[turn.arm])
        assert turn.output_tokens == (0 if turn.arm == "bare" else WORKLOAD.output_tokens)
        assert turn.ttft_s >= turn.phase_prefill_s > 0
        assert (turn.prompt_text, turn.output_text) == (None, None)
    row = result.trial
    assert (row.status, row.turn_reuse_rate) == ("ok", 1.0 if mode == "reuse" else 0.0)
    assert (row.n_samples, row.n_correct, row.accuracy, result.samples) == (None, None, None, [])


def test_given_answers_make_equal_prompts_and_a_new_question_each_repeat(model: LoadedModel) -> None:
    """Catches arms that time different prompts, and repeats that are exact repeats of one sample."""
    turns = run_trial(KVCOMM, model).turns
    prompts = {(t.sample_index, t.agent_index): set() for t in turns}
    for turn in turns:
        prompts[turn.sample_index, turn.agent_index].add(turn.prompt_sha256)
    assert {len(hashes) for hashes in prompts.values()} == {1}
    assert len(set.union(*prompts.values())) == REPEATS * AGENTS


def test_no_arm_has_the_better_place(model: LoadedModel) -> None:
    """Catches an arm that is always first, or always right after the one that warms the caches for it."""
    orders = [ttft._order(["dense", "prefix", "kvcomm"], turn) for turn in range(4)]
    assert all(sorted(order) == ["bare", "dense", "kvcomm", "prefix"] for order in orders)
    assert Counter(order.index("dense") < order.index("kvcomm") for order in orders) == {True: 2, False: 2}
    assert Counter(order.index("bare") for order in orders) == {0: 2, 3: 2}
    turns = run_trial(replace(KVCOMM, agents=2), model).turns
    first = [turns[index].arm for index in range(0, len(turns), 4)]
    assert {"dense", "kvcomm", "bare"} == set(first)


@pytest.mark.parametrize("estimator", ["l2_norm", "upstream", "mean", "affine"])
def test_pools_are_full_of_anchors_with_memory_of_their_own(model: LoadedModel, estimator: str) -> None:
    """Catches anchors that share tensors, whose blending would be timed from the processor's cache, and pools that
    the timed samples match only in part or are added to.
    """
    config = KVCommConfig(gamma=1.0, estimator=estimator)
    spec = replace(KVCOMM, parameters=config)
    timing = ttft._Timing(TrialRun(spec=spec, loaded=model, memory=MemoryMeter()), WORKLOAD)
    timing.fill_pools()
    pools = timing.engines["kvcomm"].method.pools
    timing.take_sample("some", 0)
    assert sorted(pools) == ["agent_1_current", "agent_2_current", "user_question"]
    for placeholder in pools:
        snapshot = pools[placeholder].snapshot()
        assert len(snapshot.anchors) == ANCHORS
        assert len({anchor.token_ids for anchor in snapshot.anchors}) == ANCHORS
        consumers = 3 if placeholder == "user_question" else AGENTS - int(placeholder[6])
        tensors = [tensor for anchor in snapshot.anchors for tensor in (*anchor.base_values.groups, *anchor.base_keys)]
        if config.summarises:
            assert len(snapshot.means) == consumers
            assert {int(mean.placeholder.counts_T.min()) for mean in snapshot.means.values()} == {ANCHORS}
        for anchor in () if config.summarises else snapshot.anchors:
            assert len(anchor.offsets) == consumers
            for offset in anchor.offsets.values():
                tensors += [*offset.placeholder.keys, *offset.placeholder.values, *offset.text.keys]
        assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def test_a_trial_that_would_time_something_else_fails(model: LoadedModel) -> None:
    """Catches a dense turn timed as reuse because the criterion refused the sample, and pools that are not full."""
    refused = run_trial(replace(KVCOMM, parameters=KVCommConfig(gamma=0.0)), model)
    assert refused.trial.status == "error"
    assert "agent 1's turn is dense and not reuse: criterion entropy_fitted with gamma 0.0" in (
        refused.trial.error or ""
    )
    assert refused.turns == []
    small = run_trial(replace(KVCOMM, parameters=KVCommConfig(gamma=1.0, pool_bytes=60_000)), model)
    assert small.trial.status == "error"
    assert "workload.anchors is 5, which kvcomm.pool_bytes does not allow" in (small.trial.error or "")


def test_decoded_answers_have_their_length_whatever_the_model_says(model: LoadedModel) -> None:
    """Catches answers ended early by a token that this model takes for the end, and prompts that shrink with them."""
    ends_everything = replace(model, eos_ids=frozenset(range(VOCABULARY)))
    result = run_trial(replace(KVCOMM, workload=replace(WORKLOAD, decode=True, repeats=1)), ends_everything)
    assert result.trial.error is None
    assert {(t.output_tokens, t.stop_reason) for t in result.turns if t.arm != "bare"} == {(6, "length")}


def test_prefix_is_timed_beside_the_method(model: LoadedModel) -> None:
    """Catches an arm ``prefix`` that reuses nothing, or more than each agent's own leading text."""
    turns = [turn for turn in run_trial(KVCOMM, model).turns if turn.arm == "prefix"]
    assert {turn.reused_tokens for turn in turns} == {turn.reused_text_tokens for turn in turns} == {9}


def test_dense_alone(model: LoadedModel) -> None:
    """Catches a dense trial that pairs dense with itself."""
    turns = run_trial(DENSE, model).turns
    assert Counter(turn.arm for turn in turns) == {"dense": REPEATS * AGENTS, "bare": REPEATS * AGENTS}


def test_progress_counts_repeats(model: LoadedModel) -> None:
    """Catches the warm-up counted as a repeat."""
    seen: list[tuple[int, int]] = []
    run_trial(DENSE, model, on_sample=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_bare_and_dense_arm_compute_the_same(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a bare pass over other tokens than the dense turn's, against the logits of both."""
    logits: dict[str, list[torch.Tensor]] = {"bare": [], "dense": []}

    def keep(module: object, inputs: object, output: object) -> None:
        logits["bare"].append(output.logits[0, -1])  # type: ignore[attr-defined]

    take_turns = ttft.Engine.take_turns

    def keep_turns(self: object, *arguments: object, **options: object) -> list[object]:
        turns = take_turns(self, *arguments, **options)  # type: ignore[arg-type]
        logits["dense"].append(turns[0].first_logits_V)
        return turns  # type: ignore[return-value]

    monkeypatch.setattr(ttft.Engine, "take_turns", keep_turns)
    hook = model.network.register_forward_hook(keep)
    try:
        assert run_trial(replace(DENSE, workload=replace(WORKLOAD, repeats=1)), model).trial.error is None
    finally:
        hook.remove()
    assert len(logits["bare"]) == len(logits["dense"]) == 2 * AGENTS
    for bare_V, dense_V in zip(logits["bare"], logits["dense"], strict=True):
        torch.testing.assert_close(bare_V, dense_V, rtol=0, atol=1e-4)
