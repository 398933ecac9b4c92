"""Memory of a replica, forecast by the plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig
from sweeps.cli import app
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.memory import Device, Memory, check_memory
from sweeps.plan.plan_view import plan_document, print_plan
from sweeps.plan.planning import Plan, make_plan

SMALL = TrialSpec(model="random:smollm2-135m", dtype="float32", workload=RecallSpec(limit=8), max_new_tokens=16)
KVCOMM = replace(SMALL, method="kvcomm", parameters=KVCommConfig())
PER_TOKEN = 2 * 30 * 3 * 64 * 4


def planned(folder: Path, *trials: TrialSpec) -> Plan:
    return make_plan(SweepSpec(name="s", trials=trials), folder)


def need(folder: Path, trial: TrialSpec) -> Memory:
    return planned(folder, trial).memory[trial.trial_id]


def test_weights_and_kv_by_dtype_and_batch(tmp_path: Path) -> None:
    """Would catch bytes of another dtype, and the KV of one row for a batch."""
    single = need(tmp_path, SMALL)
    assert single.weights_bytes == pytest.approx(134.5e6 * 4, rel=0.002)
    assert single.kv_bytes / PER_TOKEN > 100
    assert single.pools_bytes == 0
    half = need(tmp_path, replace(SMALL, dtype="bfloat16"))
    assert (half.weights_bytes, half.kv_bytes) == (single.weights_bytes // 2, pytest.approx(single.kv_bytes / 2, abs=1))
    batch = need(tmp_path, replace(SMALL, batch_size=4))
    assert batch.kv_bytes == pytest.approx(4 * single.kv_bytes, abs=4)
    longer = need(tmp_path, replace(SMALL, max_new_tokens=32))
    assert longer.kv_bytes > single.kv_bytes + 16 * PER_TOKEN


def test_pools_grow_with_anchors_and_shrink_by_storage(tmp_path: Path) -> None:
    """Would catch a limit of anchors, a byte budget or int8 that the forecast does not know."""

    def pools(**config: object) -> int:
        return need(tmp_path, replace(KVCOMM, parameters=KVCommConfig(**config))).pools_bytes  # type: ignore[arg-type]

    assert 0 < pools(max_anchors=2) * 2 == pytest.approx(pools(max_anchors=4), abs=4)
    assert pools(max_anchors=8) == pools(max_anchors=20)  # there are eight items
    assert pools(storage="int8") < 0.6 * pools()
    assert pools(estimator="mean", criterion="length") < pools() / 4
    assert pools(estimator="mean", criterion="length") < pools(estimator="affine", criterion="always") < pools()
    assert pools(pool_bytes=1000) == 4000


def test_what_surely_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    """Would catch a run that fails after minutes of loading, and one refused for pools that may stay small."""
    todo = planned(tmp_path, KVCOMM)
    memory = todo.memory[KVCOMM.trial_id]
    enough = Device(name="CPU", free_bytes=memory.surely_bytes)
    for device in (enough, Device(name="GPU", free_bytes=None)):
        check_memory(todo.pending, todo.memory, device)
    with pytest.raises(
        SweepError, match=r"a replica needs 0\.\d\d GB \(weights 0\.54 GB, KV .* or a larger machine"
    ) as one:
        check_memory(todo.pending, todo.memory, replace(enough, free_bytes=memory.surely_bytes - 1))
    assert "\n" not in str(one.value)


@pytest.mark.parametrize("free_bytes", [None, 10**6, 10**12])
def test_the_plan_says_what_it_needs_and_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int | None
) -> None:
    """Would catch unknown memory shown as 0, and a plan for another machine that fails on this one."""
    monkeypatch.setattr("sweeps.plan.planning.this_device", lambda: Device(name="GPU", free_bytes=free_bytes))
    todo = planned(tmp_path, SMALL, KVCOMM)
    console = Console(record=True, width=400)
    print_plan(todo, console)
    text = console.export_text()
    here = {None: "unknown", 10**6: "0.00 GB", 10**12: "1,000 GB"}[free_bytes]
    assert f"free on this machine's GPU: {here}" in text
    assert ("would not run here: model is 'random:smollm2-135m'" in text) is (free_bytes == 10**6)
    document = plan_document(todo, tmp_path)
    assert document["device"] == {"name": "GPU", "free_bytes": free_bytes}
    [_, kvcomm] = document["trials"]  # type: ignore[misc]
    assert kvcomm["memory"]["total_bytes"] == todo.memory[KVCOMM.trial_id].total_bytes


def test_trials_without_a_model_have_no_forecast(tmp_path: Path) -> None:
    """Would catch the weights of a model that the workload never loads."""
    blend = TrialSpec(model="random:smollm2-135m", workload=BlendSpec(), method="kvcomm", parameters=KVCommConfig())
    assert planned(tmp_path, blend).memory == {}


@pytest.mark.parametrize("cluster", [False, True])
def test_a_plan_that_cannot_fit_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: bool) -> None:
    """Would catch a plan that a script takes for one that runs, and a plan for a cluster refused for this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweeps.plan.planning.this_device", lambda: Device(name="CPU", free_bytes=10**6))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if cluster:
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    Path("small.yaml").write_text("name: small\nmodel: random:smollm2-135m\nworkload: {name: ttft}\nagents: 2\n")
    done = CliRunner().invoke(app, ["plan", "small.yaml"])
    assert "would not run here" in done.stdout
    assert done.exit_code == (0 if cluster else 2)
    assert done.stderr.count("\n") == (0 if cluster else 1)
