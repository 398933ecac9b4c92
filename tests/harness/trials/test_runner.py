import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from same_rows import steady
from tiny_models import tiny_chat_model, tiny_model

from harness import energy
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.topology import BUILT_IN, build_topology
from harness.trials import turn_checks
from harness.trials.runner import run_trial
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.fidelity import TurnFidelity, measure_fidelity
from kvcomm_core.models.loading import LoadedModel

ITEMS, AGENTS = 5, 3
DENSE = TrialSpec(workload=RecallSpec(limit=ITEMS), agents=AGENTS, max_new_tokens=6)
KVCOMM = replace(DENSE, method="kvcomm", parameters=KVCommConfig(gamma=1.0), fidelity=1.0)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


@pytest.fixture(scope="module")
def dense(model: LoadedModel) -> TrialResult:
    return run_trial(DENSE, model, sweep="s", attempt=2)


@pytest.fixture(scope="module")
def kvcomm(model: LoadedModel) -> TrialResult:
    return run_trial(KVCOMM, model)


def test_there_is_one_turn_per_item_and_agent_and_one_sample_per_item(dense: TrialResult) -> None:
    """Would catch a lost or doubled record, and numbers that do not say which turn it was."""
    assert dense.trial.error is None
    assert [(t.sample_index, t.agent_index) for t in dense.turns] == [
        (i, a + 1) for i in range(ITEMS) for a in range(AGENTS)
    ]
    assert [t.agent_role for t in dense.turns[:AGENTS]] == ["Reader", "Fact Keeper", "FinalRefer"]
    assert [s.sample_index for s in dense.samples] == list(range(ITEMS))
    assert {(r.trial_id, r.attempt) for r in (*dense.turns, *dense.samples)} == {(DENSE.trial_id, 2)}
    assert [s.answer_text for s in dense.samples] == [t.output_text for t in dense.turns if t.agent_index == AGENTS]


def test_agents_read_the_question_and_the_answers_before_them(dense: TrialResult) -> None:
    """Would catch a topology that is drawn but not wired into the prompts."""
    reader, keeper, final = dense.turns[:AGENTS]
    for turn in (reader, keeper, final):
        assert "Question: " in turn.prompt_text
        assert turn.prompt_text.endswith("<|im_start|>assistant\n")
    assert f"Reader (agent 1):\n{reader.output_text}\n" in keeper.prompt_text
    assert f"Fact Keeper (agent 2):\n{keeper.output_text}\n" in final.prompt_text
    assert "(agent 1)" not in reader.prompt_text


def test_the_summary_is_that_of_the_rows(dense: TrialResult, kvcomm: TrialResult) -> None:
    """Would catch a rate over turns where it should be over tokens, and a baseline with unknown reuse."""
    for result in (dense, kvcomm):
        row, turns = result.trial, result.turns
        assert (row.status, row.n_samples) == ("ok", ITEMS)
        assert row.accuracy == sum(s.outcome == "correct" for s in result.samples) / ITEMS
        assert row.token_reuse_rate == sum(t.reused_tokens for t in turns) / sum(t.prompt_tokens for t in turns)
        assert row.turn_reuse_rate == sum(t.mode == "reuse" for t in turns) / len(turns)
    assert dense.trial.turn_reuse_rate == 0
    assert kvcomm.trial.turn_reuse_rate is not None
    assert 0 < kvcomm.trial.turn_reuse_rate < 1
    assert dense.trial.pool_bytes_max is None
    assert kvcomm.trial.pool_bytes_max is not None
    assert kvcomm.trial.pool_bytes_max >= max(t.pool_bytes or 0 for t in kvcomm.turns) > 0


def test_both_arms_ask_the_same_questions_in_the_same_prompt(dense: TrialResult, kvcomm: TrialResult) -> None:
    """Would catch arms that differ in more than the method: agent 1 reads nobody, so its prompts are equal."""
    for a, b in zip(dense.turns, kvcomm.turns, strict=True):
        assert a.item_id == b.item_id
        if a.agent_index == 1:
            assert (a.prompt_sha256, a.prompt_text) == (b.prompt_sha256, b.prompt_text)
    assert [s.expected for s in dense.samples] == [s.expected for s in kvcomm.samples]


def test_times_are_consistent(kvcomm: TrialResult) -> None:
    """Would catch a phase left out of the time to first token, or counted in it though it comes after; and publishing
    in no time at all."""
    for turn in kvcomm.turns:
        assert turn.phase_estimate_s is not None
        inside = turn.phase_base_kv_s + turn.phase_match_s + turn.phase_estimate_s + turn.phase_blend_s
        inside += turn.phase_prefill_s
        assert 0 < inside <= turn.ttft_s
        assert turn.ttft_paper_s == pytest.approx(turn.ttft_s - turn.phase_base_kv_s - turn.phase_match_s)
        assert (turn.phase_blend_s > 0) == (turn.mode == "reuse")
    for sample in kvcomm.samples:
        turns = [t for t in kvcomm.turns if t.sample_index == sample.sample_index]
        assert [t.phase_publish_s is None for t in turns] == [True] * (len(turns) - 1) + [False]
        published = turns[-1].phase_publish_s or 0.0
        assert sample.latency_s == pytest.approx(
            sum(t.ttft_s + t.decode_s + t.phase_store_s for t in turns) + published
        )
        assert sample.ttft_sum_s == pytest.approx(sum(t.ttft_s for t in turns))
        assert sample.decode_sum_s == pytest.approx(sum(t.decode_s for t in turns))
        assert 0 < sample.ttft_sum_s < sample.latency_s


def test_energy_is_shared_by_a_batch_and_leaves_out_the_checks(
    model: LoadedModel, kvcomm: TrialResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter that gains 1 J with each reading, and 100 J with each check. Would catch a batch's energy given to each
    of its items, energy of the checks, that of publishing left out, an item's energy counted for the next one, and 0
    where no GPU tells."""
    used_mj = 0

    def read(_: object) -> int:
        nonlocal used_mj
        used_mj += 1_000
        return used_mj

    def check(*arguments: Any, **named: Any) -> list[TurnFidelity]:
        nonlocal used_mj
        used_mj += 100_000
        return measure_fidelity(*arguments, **named)

    nvml = SimpleNamespace(NVMLError=RuntimeError, nvmlDeviceGetTotalEnergyConsumption=read)
    monkeypatch.setattr(energy, "_counters", lambda devices: (nvml, ["a GPU"]))
    monkeypatch.setattr(turn_checks, "measure_fidelity", check)
    result = run_trial(replace(DENSE, method="naive", fidelity=1.0, batch_size=2), model)
    assert used_mj > 100_000, "the trial must meet checks"
    assert [s.energy_j for s in result.samples] == [(AGENTS + 1) / 2] * 4 + [AGENTS + 1]
    assert result.trial.energy_j == 3 * (AGENTS + 1)
    assert {s.energy_j for s in kvcomm.samples} | {kvcomm.trial.energy_j} == {None}


def test_fidelity_is_measured_where_asked_and_unknown_elsewhere(model: LoadedModel, kvcomm: TrialResult) -> None:
    """Would catch 0 for 'not measured', and measuring the dense turns, which are exact by definition."""
    for turn in kvcomm.turns:
        for name in (
            "kl_next_token",
            "top1_agree",
            "kl_continuation",
            "top1_continuation",
            "continuation_tokens",
            "greedy_agreement",
            "key_cosine",
            "value_cosine",
        ):
            assert (getattr(turn, name) is None) == (turn.mode == "dense")
        assert turn.continuation_tokens in (None, DENSE.max_new_tokens), "these answers are cut off by length"
        assert (turn.first_divergence is None) == (turn.greedy_agreement in (None, 1.0))
    unchecked = run_trial(replace(KVCOMM, fidelity=0.0), model)
    assert {t.kl_next_token for t in unchecked.turns} == {t.key_cosine for t in unchecked.turns} == {None}
    assert (unchecked.fidelity, unchecked.trial.kl_mean, unchecked.trial.top1_rate) == ([], None, None)
    assert (unchecked.trial.kl_continuation_mean, unchecked.trial.top1_continuation_mean) == (None, None)
    assert unchecked.trial.greedy_agreement_mean is None
    # Checking must not disturb what is checked.
    assert [t.output_text for t in unchecked.turns] == [t.output_text for t in kvcomm.turns]


def test_accounts_add_up_and_reach_the_summary(kvcomm: TrialResult, dense: TrialResult) -> None:
    """Would catch an account that a record lacks, a sum over other turns, and a dense trial whose reasons are 0 instead
    of unknown."""
    for turn in (*dense.turns, *kvcomm.turns):
        kinds = (
            turn.computed_prefill_tokens,
            turn.computed_recompute_tokens,
            turn.computed_base_kv_tokens,
            turn.computed_learning_tokens,
        )
        assert turn.computed_tokens == sum(kind or 0 for kind in kinds)
        assert None not in (*kinds, turn.exact_prefix_tokens, turn.estimated_tokens)
        assert (turn.no_reuse_reason is None) == (turn.mode == "reuse" or turn.arm == "dense")
        assert (turn.no_reuse_placeholder is None) == (turn.no_reuse_reason is None)
    row, prompts = kvcomm.trial, sum(turn.prompt_tokens for turn in kvcomm.turns)
    assert row.computed_tokens == sum(turn.computed_tokens or 0 for turn in kvcomm.turns)
    assert row.exact_prefix_rate == sum(turn.exact_prefix_tokens or 0 for turn in kvcomm.turns) / prompts
    assert row.estimated_rate == sum(turn.estimated_tokens or 0 for turn in kvcomm.turns) / prompts
    reasons = [turn.no_reuse_reason for turn in kvcomm.turns if turn.no_reuse_reason]
    assert json.loads(row.no_reuse_json or "") == {reason: reasons.count(reason) for reason in reasons}
    assert dense.trial.no_reuse_json is None


def test_fidelity_by_layer_and_in_the_summary(kvcomm: TrialResult) -> None:
    """Would catch rows of another turn, a layer or kind left out, and means over turns that were not checked."""
    checked = {(t.sample_index, t.agent_index): t for t in kvcomm.turns if t.mode != "dense"}
    assert {(r.trial_id, r.attempt, r.round) for r in kvcomm.fidelity} == {(KVCOMM.trial_id, 1, 0)}
    assert len(kvcomm.fidelity) == len(checked) * 2 * 2 * 2  # layers, kinds and parts
    for (sample, agent), turn in checked.items():
        rows = [r for r in kvcomm.fidelity if (r.sample_index, r.agent_index) == (sample, agent)]
        assert {(r.layer, r.kind, r.part) for r in rows} == {
            (layer, kind, part) for layer in (0, 1) for kind in ("text", "placeholder") for part in ("keys", "values")
        }
        keys = [(r.cosine, r.tokens) for r in rows if r.part == "keys"]
        assert turn.key_cosine == pytest.approx(sum(c * n for c, n in keys) / sum(n for _, n in keys))
        placeholder = {r.tokens for r in rows if r.kind == "placeholder"}
        # Base KV that the turn made itself is compared, but was not reused.
        assert placeholder == {turn.reused_placeholder_tokens + (turn.computed_base_kv_tokens or 0)}
    turns = list(checked.values())
    assert kvcomm.trial.kl_mean == pytest.approx(sum(t.kl_next_token or 0 for t in turns) / len(turns))
    assert kvcomm.trial.top1_rate == sum(t.top1_agree or 0 for t in turns) / len(turns)
    for mean, column in (
        (kvcomm.trial.kl_continuation_mean, "kl_continuation"),
        (kvcomm.trial.top1_continuation_mean, "top1_continuation"),
    ):
        assert mean == pytest.approx(sum(getattr(t, column) for t in turns) / len(turns))
    assert kvcomm.trial.greedy_agreement_mean == pytest.approx(sum(t.greedy_agreement or 0 for t in turns) / len(turns))


def test_prefix_is_exact_and_naive_is_not(model: LoadedModel) -> None:
    """Would catch partial turns left unchecked, and a measure that finds no difference, or one where none is."""
    for method, exact in (("prefix", True), ("naive", False)):
        result = run_trial(replace(DENSE, method=method, fidelity=1.0, batch_size=2), model)  # type: ignore[arg-type]
        assert all(t.kl_next_token is not None for t in result.turns)
        assert (max(t.kl_next_token or 0 for t in result.turns) < 1e-6) == exact
        assert (max(t.kl_continuation or 0 for t in result.turns) < 1e-6) == exact
        assert (result.trial.top1_continuation_mean == 1.0) == exact
        assert (min(t.value_cosine or 0 for t in result.turns) > 1 - 1e-5) == exact
        assert (result.trial.greedy_agreement_mean == 1.0) == exact
        assert (result.trial.pool_bytes_by_placeholder, result.trial.pool_bytes_public_layout) == (None, None)


def test_pools_at_the_end_beside_the_public_layout(model: LoadedModel, kvcomm: TrialResult) -> None:
    """Would catch pools of another moment, a pool left out, and int8 or mean that save nothing."""
    row = kvcomm.trial
    by_placeholder = json.loads(row.pool_bytes_by_placeholder or "")
    assert set(by_placeholder) == {"user_question", "agent_1_current", "agent_2_current"}
    assert sum(by_placeholder.values()) == row.pool_bytes_max
    assert row.pool_bytes_public_layout is not None
    shares = [sum(by_placeholder.values()) / row.pool_bytes_public_layout]
    for config in (KVCommConfig(gamma=1.0, storage="int8"), KVCommConfig(gamma=1.0, estimator="mean")):
        other = run_trial(replace(KVCOMM, parameters=config, fidelity=0.0), model).trial
        assert other.pool_bytes_public_layout is not None
        held = sum(json.loads(other.pool_bytes_by_placeholder or "").values())
        shares.append(held / other.pool_bytes_public_layout)
    assert max(shares) < 1
    assert shares[1] < 0.7 * shares[0]


def test_anchors_at_the_end(model: LoadedModel, kvcomm: TrialResult) -> None:
    """Would catch anchors of another moment, uses that are not those of the turns, and readers that have not read."""
    assert kvcomm.trial.anchors_at_end == len(kvcomm.anchors) > 0
    for reader, placeholder in ((1, "user_question"), (2, "agent_1_current"), (3, "agent_2_current")):
        own = [anchor for anchor in kvcomm.anchors if anchor.placeholder == placeholder]
        assert [anchor.age_rank for anchor in own] == list(range(len(own)))
        assert all(str(reader) in (anchor.readers or "").split() for anchor in own)
        assert all((anchor.weight > 0) == (anchor.activations > 0) for anchor in own)
    # Over the anchors of a pool, weights sum to 1 for each hole that was reused; nothing is evicted here.
    holes = {"user_question": (1, 2, 3), "agent_1_current": (2, 3), "agent_2_current": (3,)}
    for placeholder, readers in holes.items():
        reused = sum(turn.mode == "reuse" and turn.agent_index in readers for turn in kvcomm.turns)
        assert sum(a.weight for a in kvcomm.anchors if a.placeholder == placeholder) == pytest.approx(reused)
    mean = run_trial(replace(KVCOMM, parameters=KVCommConfig(gamma=1.0, estimator="mean"), fidelity=0.0), model)
    assert {anchor.readers for anchor in mean.anchors} == {None}
    sharded = run_trial(replace(KVCOMM, shards=2, fidelity=0.0), model, attempt=4)
    assert sharded.trial.anchors_at_end == len(sharded.anchors)
    assert {(anchor.shard, anchor.attempt) for anchor in sharded.anchors} == {(0, 4), (1, 4)}


def test_memory_is_measured(model: LoadedModel, kvcomm: TrialResult) -> None:
    """Would catch a turn's memory or a trial's peak left unknown, or another unit."""
    row = kvcomm.trial
    assert row.memory_start_bytes is not None
    assert row.memory_start_bytes > 50e6, "a process that has loaded torch"
    # Linux counts pages per thread first, so that a peak may lag behind by a few hundred kilobytes.
    if row.memory_peak_bytes is not None:
        assert row.memory_peak_bytes > max(t.memory_bytes for t in kvcomm.turns) - 8e6


def test_a_trial_repeats_itself(model: LoadedModel, kvcomm: TrialResult) -> None:
    """Would catch state left over from an earlier trial on the same replica, such as a pool that is not empty."""
    again = run_trial(KVCOMM, model)
    assert [steady(t) for t in again.turns] == [steady(t) for t in kvcomm.turns]
    assert [steady(s) for s in again.samples] == [steady(s) for s in kvcomm.samples]
    assert again.fidelity == kvcomm.fidelity


def test_batches_give_the_same_answers(model: LoadedModel, dense: TrialResult) -> None:
    """Would catch records of a batch that are mixed up, and a last, smaller batch that is lost."""
    batched = run_trial(replace(DENSE, batch_size=2), model, attempt=2)
    assert [t.batch_size for t in batched.turns] == [2] * 4 * AGENTS + [1] * AGENTS
    same = ("sample_index", "item_id", "agent_index", "prompt_sha256", "output_text")
    for a, b in zip(batched.turns, dense.turns, strict=True):
        assert [getattr(a, name) for name in same] == [getattr(b, name) for name in same]


@pytest.mark.parametrize("method", ["dense", "kvcomm"])
def test_rounds_read_the_last_round_and_the_last_one_is_graded(model: LoadedModel, method: str) -> None:
    """Would catch a second round that repeats the first, that reads its own answers as history, or is not graded."""
    spec = replace(DENSE if method == "dense" else KVCOMM, rounds=3, agents=2)
    result = run_trial(spec, model)
    assert result.trial.error is None
    assert result.trial.rounds == 3
    by_item = [result.turns[start : start + 6] for start in range(0, 6 * ITEMS, 6)]
    for sample, turns in zip(result.samples, by_item, strict=True):
        assert {t.sample_index for t in turns} == {sample.sample_index}
        assert [(t.round, t.agent_index) for t in turns] == [(r, a) for r in range(3) for a in (1, 2)]
        assert sample.answer_text == turns[-1].output_text
        assert "In the last round" not in turns[0].prompt_text + turns[1].prompt_text
        # What this model says is noise with markup in it, which output_text leaves out.
        prompts = {turn.prompt_sha256: turn.prompt_text.replace("<|im_start|>", "") for turn in turns}
        for before, now in ((turns[0:2], turns[2:4]), (turns[2:4], turns[4:6])):
            for turn in now:
                for said in before:
                    intro = f"In the last round, {said.agent_role} (agent {said.agent_index}) answered:\n"
                    assert f"{intro}{said.output_text}\n" in prompts[turn.prompt_sha256]
            assert f"\nReader (agent 1):\n{now[0].output_text}\n" in prompts[now[1].prompt_sha256]
            assert "\nReader (agent 1):\n" not in now[0].prompt_text
    if method == "kvcomm":
        reused = {(t.round, t.agent_index) for t in result.turns if t.mode == "reuse"}
        assert reused == {(r, a) for r in range(3) for a in (1, 2)}, "every kind of turn must meet reuse"


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_topology_is_what_its_agents_read(model: LoadedModel, name: str) -> None:
    """Would catch edges that are drawn but not wired into the prompts, in this round or in the next."""
    agents = 1 if name == "single" else 5
    spec = replace(KVCOMM, topology=name, agents=agents, rounds=2, fidelity=0.0, workload=RecallSpec(limit=2))
    result = run_trial(spec, model)
    assert result.trial.error is None
    topology = build_topology(name, agents, spec.seed)
    assert [(t.round, t.agent_index) for t in result.turns[: 2 * agents]] == [
        (round_, agent) for round_ in (0, 1) for agent in range(1, agents + 1)
    ]
    assert {t.agent_role for t in result.turns if t.agent_index == agents} == {
        "Reader" if name == "single" else "FinalRefer"
    }
    for turn in result.turns:
        prompt = turn.prompt_text or ""
        current = {int(agent) for agent in re.findall(r"^[\w ]+ \(agent (\d)\):$", prompt, re.MULTILINE)}
        last = {int(agent) for agent in re.findall(r"^In the last .+ \(agent (\d)\) answered:$", prompt, re.MULTILINE)}
        assert current == set(topology.read_by(turn.agent_index))
        assert last == (set(topology.remembered_by(turn.agent_index)) if turn.round else set())


def test_one_round_of_several_is_that_of_one(model: LoadedModel, dense: TrialResult) -> None:
    """Would catch a first round that changes because others follow."""
    several = run_trial(replace(DENSE, rounds=2), model)
    first = [turn for turn in several.turns if turn.round == 0]
    assert [t.prompt_sha256 for t in first] == [t.prompt_sha256 for t in dense.turns]
    assert [t.output_text for t in first] == [t.output_text for t in dense.turns]


def test_progress_is_reported_after_each_item(model: LoadedModel) -> None:
    """Would catch a display that stands still, or counts from 0."""
    seen: list[tuple[int, int]] = []
    run_trial(
        replace(DENSE, workload=RecallSpec(limit=3)), model, on_sample=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_failures_are_rows_with_their_reason(model: LoadedModel, tmp_path: Path) -> None:
    """Would catch an exception that ends a sweep, and a metric that is 0 where it is unknown."""
    missing = replace(DENSE, workload=Gsm8kSpec(path=str(tmp_path / "none.jsonl")))

    class OutOfMemory:
        def __getattr__(self, name: str) -> object:
            raise torch.OutOfMemoryError("no memory")

    for spec, broken, status, reason in (
        (missing, model, "error", "none.jsonl"),
        (DENSE, tiny_model(), "error", "no tokenizer"),
        (DENSE, replace(model, network=OutOfMemory()), "oom", "no memory"),
    ):
        result = run_trial(spec, broken)
        row = result.trial
        assert row.status == status
        assert row.error is not None
        assert reason in row.error
        assert (result.turns, result.samples) == ([], [])
        assert {row.n_samples, row.n_correct, row.accuracy, row.token_reuse_rate, row.turn_reuse_rate} == {None}


def test_ctrl_c_passes_through(model: LoadedModel) -> None:
    """Would catch a trial that cannot be interrupted."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(DENSE, model, on_sample=interrupt)
