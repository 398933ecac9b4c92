"""The commands for logs of chat calls as people and scripts meet them."""

import json
from pathlib import Path

import pytest
from made_up import make_result, write_results
from typer.testing import CliRunner

from harness.spec import TrialSpec
from sweeps.cli import app

__all__ = ["make_result"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def kvcomm(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


QUESTION = " ".join(f"word{'abcdefgh'[index % 8]}{'ijklmnop'[index // 8]}" for index in range(60))


def write_log(*records):
    Path("log.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return "log.jsonl"


def calls():
    user = {"role": "user", "content": QUESTION}
    return [
        {"session_id": "s", "agent": "a", "messages": [{"role": "system", "content": "A."}, user], "response": "Yes."},
        {"session_id": "s", "agent": "b", "messages": [{"role": "system", "content": "B."}, user], "response": "No."},
    ]


def test_potential_as_json():
    """Catches output beside the document, and numbers that are not those of the page."""
    done = kvcomm("potential", write_log(*calls()), "--json", "--block", 1)
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["log"] == "log.jsonl"
    assert document["total"]["whole_inputs"] == 60
    assert document["agents"]["b"]["exact_prefix"] == 1
    assert document["pairs"] == [{"producer": "input: user", "reader": "b", "tokens": 60}]
    assert document["total"]["new"] == document["total"]["prompt"] - 61
    page = kvcomm("potential", "log.jsonl", "--block", 1)
    assert page.exit_code == 0
    assert "Another 60 tokens" in page.stdout


@pytest.mark.slow
def test_potential_draws():
    done = kvcomm("potential", write_log(*calls()), "--out", "pictures")
    assert done.exit_code == 0
    assert done.stdout.endswith("picture: pictures/potential.{svg,pdf,png,csv}\n")
    assert sorted(path.name for path in Path("pictures").iterdir()) == [
        f"potential.{kind}" for kind in ("csv", "pdf", "png", "svg")
    ]
    Path("file").touch()
    done = kvcomm("potential", "log.jsonl", "--out", "file")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "kvcomm: file cannot be written: File exists\n"


def test_bad_input_is_one_line():
    """Catches a traceback, another exit code, and a message that does not name file, line and field."""
    write_log(calls()[0], {"messages": [{"role": 5}]})
    for arguments, message in (
        (
            ["log.jsonl"],
            "log.jsonl line 2: messages[0].role is 5; allowed: a name such as system, user, assistant or tool",
        ),
        (["missing.jsonl"], "missing.jsonl: cannot be read: No such file or directory"),
        (["log.jsonl", "--tokenizer", "no.json"], "tokenizer is 'no.json', which cannot be read"),
    ):
        done = kvcomm("potential", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"kvcomm: {message}")
        assert len(done.stderr.splitlines()) == 1


def test_export(tmp_path, make_result):
    """Catches another exit code or a traceback where there is nothing to export, or no place for it."""
    specs = [TrialSpec(), TrialSpec(method="naive")]
    write_results(Path("results"), *map(make_result, specs))
    trial = specs[0].trial_id
    done = kvcomm("export-trace", "results", "log.jsonl", "--trial", trial)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "log.jsonl: 6 calls in 2 conversations; 6 prompts in one message each\n"
    for arguments, message in (
        (["results", "log.jsonl"], "2 trials with text are in the results; allowed: one, chosen by --trial"),
        (["results", "no/log.jsonl", "--trial", trial], "no/log.jsonl cannot be written: No such file or directory"),
        (["nothing", "log.jsonl"], "nothing"),
    ):
        done = kvcomm("export-trace", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"kvcomm: {message}")
        assert len(done.stderr.splitlines()) == 1


SWEEP = """
name: replay
model: random:smollm2-135m
workload: {name: trace, path: log.jsonl}
fidelity: 0.5
grid:
  method: [dense, kvcomm]
"""


def test_a_sweep_of_a_log_is_planned():
    """Catches a log that cannot be planned, and the calls compared with dense missing from the estimate."""
    write_log(*calls())
    Path("sweep.yaml").write_text(SWEEP)
    done = kvcomm("plan", "sweep.yaml", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    dense, reused = (trial["cost"]["prompt_tokens"] for trial in json.loads(done.stdout)["trials"])
    assert reused == pytest.approx(1.5 * dense, abs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("log.jsonl}", "none.jsonl}"), "trace: no such file: none.jsonl. Set workload.path to a log of chat calls"),
        (("log.jsonl}", "log.jsonl, limit: 2}"), "workload.limit is 2; allowed: 1 to 1, the number of conversations"),
        (("log.jsonl}", "log.jsonl, shortest: 1}"), "workload.shortest is 1; allowed: 8 or more"),
        (("log.jsonl}", "bad.jsonl}"), "bad.jsonl line 1: messages[0].role is 5; allowed: a name such as system"),
        (("path: log.jsonl", "limit: 1"), "workload.path is missing"),
        (("fidelity: 0.5", "rounds: 2"), "rounds is given with workload trace alone, which has no use for it"),
    ],
)
def test_a_sweep_of_a_log_with_a_mistake(change, message):
    """Catches a traceback, and a mistake that shows only after the model is loaded."""
    write_log(*calls())
    Path("bad.jsonl").write_text('{"messages": [{"role": 5}]}\n')
    Path("sweep.yaml").write_text(SWEEP.replace(*change))
    done = kvcomm("plan", "sweep.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
