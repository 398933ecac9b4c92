"""The shipped log of chat calls: what its script writes, what can be reused of it, its replay, and the way back."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from tiny_models import tiny_chat_model
from typer.testing import CliRunner

import kvcomm_core.models.loading
from harness.results.sweep_folder import read_trials
from sweeps.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("incident", "service", "town", "person", "start", "share", "count", "seconds", "version", "node", "symptom")


def kvcomm(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    return done.stdout


def test_the_log_is_what_its_script_writes(tmp_path):
    """Catches a text that was changed without writing the log anew, and a log that differs from run to run."""
    runpy.run_path(str(EXAMPLES / "make_trace.py"))["write"](tmp_path / "trace.jsonl")
    assert (tmp_path / "trace.jsonl").read_bytes() == (EXAMPLES / "trace.jsonl").read_bytes()
    assert (EXAMPLES / "trace.jsonl").stat().st_size < 600_000


def test_what_the_log_holds():
    """Catches conversations without a tool, a round or an agent, and a number that a text forgot to fill in."""
    calls = [json.loads(line) for line in (EXAMPLES / "trace.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({call["conversation_id"] for call in calls}) == 30
    for index in range(30):
        own = calls[9 * index : 9 * index + 9]
        agents = ["triage", "investigator", "investigator", "reviewer", "coordinator"]
        assert [call["agent"] for call in own] == [*agents, "triage", *agents[2:]]
        assert len({call["conversation_id"] for call in own}) == 1
        assert own[1]["response"]["tool_calls"][0]["function"]["name"] == "search_logs"
        assert own[2]["messages"][-1]["role"] == "tool"
        texts = [json.dumps(call["messages"][1]["content"]) for call in own]
        assert not any(f"{{{name}}}" in text for text in texts for name in NAMES)


def test_potential():
    """Catches texts that agents no longer read to the letter, such as an answer that is cut or wrapped anew."""
    total = json.loads(kvcomm("potential", EXAMPLES / "trace.jsonl", "--json"))["total"]
    assert total["whole_answers"] > 0.25 * total["prompt"]
    assert total["whole_inputs"] > 0.08 * total["prompt"]
    assert total["fragments"] < 0.05 * total["prompt"]


@pytest.mark.slow
def test_replay_and_the_way_back(tmp_path, monkeypatch):
    """Catches calls that get no template, so that nothing is reused, and an export that loses calls or agents."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(kvcomm_core.models.loading, "load_model", lambda name, dtype, weights: tiny_chat_model())
    Path("examples").symlink_to(EXAMPLES)
    options = ("--in-process", "--limit", 3, "--set", "method=[dense, naive]")
    kvcomm("run", "examples/trace.yaml", *options)
    rows = {row["method"]: row for row in json.loads(kvcomm("show", "results", "--json"))["traces"] if not row["agent"]}
    dense, reused = rows["dense"], rows["naive"]
    assert (dense["n_turns"], reused["n_turns"], reused["n_dense"]) == (27, 27, 0)
    assert reused["computed"] < 0.3
    [trial] = [row["trial_id"] for row in read_trials(Path("results/trace")).to_pylist() if row["method"] == "dense"]
    said = kvcomm("export-trace", "results", "back.jsonl", "--trial", trial)
    assert said == "back.jsonl: 27 calls in 3 conversations\n"
    back = json.loads(kvcomm("potential", "back.jsonl", "--json"))
    assert back["total"]["calls"] == 27
    assert set(back["agents"]) == {"triage", "investigator", "reviewer", "coordinator"}
    assert back["total"]["whole_answers"] > 0.25 * back["total"]["prompt"]
