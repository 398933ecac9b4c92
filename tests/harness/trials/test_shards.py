"""A trial in shards: all of its items, each once, in their order, whatever ran them."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from same_rows import differences
from tiny_models import tiny_chat_model

from harness.results.checkpoint import Checkpoints
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.trials.shards import merge_shards
from harness.workloads.recall import RecallSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.models.loading import LoadedModel

DENSE = TrialSpec(workload=RecallSpec(limit=7), agents=2, max_new_tokens=4)
KVCOMM = replace(DENSE, method="kvcomm", parameters=KVCommConfig(gamma=1.0), fidelity=1.0)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_chat_model()


@pytest.fixture(scope="module")
def parts(model: LoadedModel) -> list[TrialResult]:
    spec = replace(KVCOMM, shards=3)
    return [run_trial(spec, model, attempt=attempt, shard=shard) for shard, attempt in enumerate((1, 4, 2))]


@pytest.mark.parametrize("shards", [2, 3, 7])
def test_dense_is_the_same_in_any_number_of_shards(model: LoadedModel, shards: int) -> None:
    """Would catch items lost, doubled or out of order, indices of a shard instead of the trial's, and a summary that is
    that of one shard."""
    whole, sharded = run_trial(DENSE, model), run_trial(replace(DENSE, shards=shards), model)
    its_own = {"trial_id", "spec_json"}
    assert differences(sharded, whole, without=its_own) == []
    assert {record.trial_id for record in (sharded.trial, *sharded.turns, *sharded.samples)} == {
        replace(DENSE, shards=shards).trial_id
    }


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2])
def test_kvcomm_reuses_less_and_always_the_same(model: LoadedModel, batch_size: int) -> None:
    """Would catch shards that see each other's anchors, and ones that depend on what ran before them."""
    spec = replace(KVCOMM, batch_size=batch_size, workload=RecallSpec(limit=12))
    whole = run_trial(spec, model).trial
    sharded, again = (run_trial(replace(spec, shards=3), model) for _ in range(2))
    assert whole.token_reuse_rate is not None
    assert sharded.trial.token_reuse_rate is not None
    assert 0 < sharded.trial.token_reuse_rate < whole.token_reuse_rate
    assert differences(sharded, again) == []
    assert sharded.trial.kl_mean is not None
    # The first samples of every shard are dense: min_anchors of them, and with a batch those that began together.
    first = [turn.mode for turn in sharded.turns if turn.sample_index < 3 * 2]
    assert set(first) == {"dense"}


def test_merging_is_a_matter_of_the_records(parts: list[TrialResult], model: LoadedModel) -> None:
    """Would catch a merge that depends on who ran a shard, in which attempt, and that forgets the later ones."""
    spec = replace(KVCOMM, shards=3)
    merged = merge_shards(spec, dict(enumerate(parts)), 4)
    assert differences(merged, run_trial(spec, model)) == []
    assert {r.attempt for r in (merged.trial, *merged.turns, *merged.samples, *merged.fidelity)} == {4}
    assert [sample.sample_index for sample in merged.samples] == list(range(7))
    assert [(t.sample_index, t.agent_index) for t in merged.turns] == [(i, a) for i in range(7) for a in (1, 2)]
    assert len(merged.fidelity) == sum(len(part.fidelity) for part in parts) > 0
    assert [sample.sample_index for sample in parts[1].samples] == [1, 4]


def test_the_summary_of_a_merge(parts: list[TrialResult]) -> None:
    """Would catch times of one shard, a sum where a replica's need is meant, and pools counted once."""
    rows = [part.trial for part in parts]
    later = [
        replace(
            row,
            started_at=rows[0].started_at + timedelta(seconds=10 * number),
            ended_at=rows[0].started_at + timedelta(seconds=100 - number),
            host=f"host {number % 2}",
            memory_peak_bytes=(5, None, 9)[number],
            resumed_from=number,
            sandbox_layers=("a b c", "c b", "b x c")[number],
            exclusive=number != 2,
        )
        for number, row in enumerate(rows)
    ]
    results = [replace(part, trial=row, messages=[row.host]) for part, row in zip(parts, later, strict=True)]
    merged = merge_shards(replace(KVCOMM, shards=3), dict(enumerate(results)), 4)
    row = merged.trial
    assert (row.started_at, row.ended_at) == (later[0].started_at, later[0].ended_at)
    assert (row.host, row.memory_peak_bytes, row.resumed_from) == ("host 0 host 1", 9, 3)
    assert (row.sandbox_layers, row.exclusive) == ("b c", False)
    assert (row.load_average_start, row.load_average_end, row.others_cpu_s) == (None, None, None)
    assert row.pool_bytes_max == max(r.pool_bytes_max or 0 for r in rows)
    held = [sum(json.loads(r.pool_bytes_by_placeholder or "").values()) for r in rows]
    assert sum(json.loads(row.pool_bytes_by_placeholder or "").values()) == sum(held) > max(held)
    assert row.pool_bytes_public_layout == sum(r.pool_bytes_public_layout or 0 for r in rows)
    assert merged.messages == ["host 0", "host 1", "host 0"]


def test_shards_of_different_models_are_not_merged(parts: list[TrialResult]) -> None:
    """Would catch a trial made of two nodes' copies of a model, one of them newer, under the digest of the first."""
    for name in ("weights_digest", "tokenizer_digest", "template_digest"):
        rows = [replace(part.trial, **{name: digest}) for part, digest in zip(parts, ("aa", "aa", "bb"), strict=True)]
        results = {shard: TrialResult(row) for shard, row in enumerate(rows)}
        with pytest.raises(ValueError, match=f"^{name} is aa and bb; allowed: the same in all shards of a trial$"):
            merge_shards(replace(KVCOMM, shards=3), results, 4)


def test_one_failed_shard_is_a_failed_trial(parts: list[TrialResult], model: LoadedModel) -> None:
    """Would catch a trial that passes for whole without some of its items."""
    spec = replace(KVCOMM, shards=3)
    failed = TrialResult(replace(parts[1].trial, status="oom", error="no memory", n_samples=None))
    for results in ({2: parts[2], 1: failed, 0: parts[0]}, {1: failed}):
        merged = merge_shards(spec, results, 5)
        assert merged.trial.attempt == 5
        assert (merged.trial.status, merged.trial.error) == ("oom", "shard 2 of 3: no memory")
        assert (merged.turns, merged.samples, merged.fidelity) == ([], [], [])
    with pytest.raises(ValueError, match=r"results are of shards \[0, 2\]; allowed: each of 0 to 2"):
        merge_shards(spec, {2: parts[2], 0: parts[0]}, 4)
    seen = []
    broken = run_trial(replace(spec, agents=3), replace(model, tokenizer=None), on_sample=lambda *_: seen.append(1))
    assert broken.trial.status == "error"
    assert broken.trial.error is not None
    assert broken.trial.error.startswith("shard 1 of 3: Traceback")
    assert seen == []


@pytest.mark.slow
def test_shards_go_on_from_their_own_checkpoints(model: LoadedModel, tmp_path: Path) -> None:
    """The second of three dies. Would catch a finished shard that is run again, and checkpoints that are mixed up."""
    spec = replace(KVCOMM, shards=3)
    checkpoints = Checkpoints(tmp_path, 1e-9)
    reports: list[tuple[int, int]] = []

    def die(done: int, total: int) -> None:
        reports.append((done, total))
        if len(reports) == 5:  # the shards have 3, 2 and 2 items
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(spec, model, on_sample=die, checkpoints=checkpoints)
    rest: list[tuple[int, int]] = []
    found = run_trial(
        spec, model, attempt=2, on_sample=lambda done, total: rest.append((done, total)), checkpoints=checkpoints
    )
    assert reports == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]
    assert rest == [(2, 2), (1, 2), (2, 2)]
    assert found.trial.resumed_from == 4
    assert differences(found, run_trial(spec, model)) == []


def test_too_many_shards_and_too_few(model: LoadedModel) -> None:
    """Would catch shards without items, whose metrics are of nothing."""
    row = run_trial(replace(DENSE, shards=8), model).trial
    assert row.status == "error"
    assert row.error is not None
    assert "shards is 8; allowed: 1 to 7, the number of items" in row.error
    with pytest.raises(ValueError, match="shards is 0; allowed: 1 or more"):
        replace(DENSE, shards=0)
    with pytest.raises(ValueError, match="shards is 2; allowed: 1, with workload ttft"):
        replace(DENSE, workload=TtftSpec(), shards=2)
