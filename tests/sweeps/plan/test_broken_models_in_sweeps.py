"""A broken model as users of the command meet it, and which model it was in the records of a whole one."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_files import save_folder, write_gguf
from typer.testing import CliRunner

from harness.results.sweep_folder import read_trials
from sweeps.cli import app

SWEEP = (
    "name: s\nmodel: {}\nworkload: {{name: recall, limit: 1}}\nagents: 2\nmax_new_tokens: 2\ncheckpoint_minutes: 0\n"
)
TTFT = "name: s\nmodel: {}\nworkload: {{name: ttft}}\nmethod: kvcomm\n"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    save_folder(Path("model"))


def kvcomm(command, model, *options, sweep=SWEEP):
    Path("sweep.yaml").write_text(sweep.format(model))
    return CliRunner().invoke(app, [command, "sweep.yaml", *options])


def refused(model):
    """The one line of ``plan``, which ``run`` prints as well."""
    done = [kvcomm("plan", model), kvcomm("run", model, "--in-process")]
    assert [(each.exit_code, each.stdout) for each in done] == [(2, ""), (2, "")]
    assert done[0].stderr == done[1].stderr
    assert not Path("results").exists()
    [line] = done[0].stderr.splitlines()
    return line


def test_what_planning_sees_is_one_line():
    """Would catch tracebacks of json and safetensors, and hours of waiting for a replica that refuses."""
    Path("model/config.json").write_text("{")
    assert "model/config.json: not valid JSON" in refused("./model")
    Path("cut.gguf").write_bytes(b"GGUF" + bytes(40))
    assert "cut.gguf: GGUF version is 0; allowed: 2, 3" in refused("./cut.gguf")
    write_gguf(Path("gemma.gguf"), "gemma3")
    assert "gemma.gguf: general.architecture is 'gemma3'; allowed: llama" in refused("./gemma.gguf")


def test_words_need_a_template_and_timings_do_not():
    """Would catch a base model that ``ttft`` cannot be timed on any more, and one that is asked without markup."""
    Path("model/chat_template.jinja").unlink()
    assert "its tokenizer has no chat template; allowed: the workloads ttft and blend" in refused("./model")
    assert kvcomm("plan", "./model", sweep=TTFT).exit_code == 0


def test_what_loading_sees_is_a_failed_row():
    """Would catch a trial that ends ``ok`` on random numbers, and a traceback in place of the reason."""
    weights = load_file("model/model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, "model/model.safetensors", metadata={"format": "pt"})
    assert kvcomm("plan", "./model").exit_code == 0
    done = kvcomm("run", "./model", "--in-process")
    assert done.exit_code == 1
    [row] = read_trials(Path("results/s")).to_pylist()
    assert row["status"] == "error"
    assert "tensor 'model.norm.weight' is missing; allowed: exactly the tensors of its configuration" in row["error"]
    assert "\n" not in row["error"]
    assert row["weights_digest"] is None


def test_a_model_that_never_ends_is_a_failed_row():
    """Would catch answers that are all as long as allowed, which say nothing about the model."""
    for name in ("config.json", "generation_config.json"):
        path = Path("model", name)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": None}))
    assert kvcomm("run", "./model", "--in-process").exit_code == 1
    [row] = read_trials(Path("results/s")).to_pylist()
    assert row["error"].startswith("model is './model'; neither generation_config.json nor config.json has")
    assert "\n" not in row["error"]


def test_records_say_which_model_it_was():
    """Would catch a record that names a folder, whatever has been put into it meanwhile."""
    assert kvcomm("run", "./model", "--in-process").exit_code == 0
    [row] = read_trials(Path("results/s")).to_pylist()
    assert row["weights_digest"] == hashlib.sha256(Path("model/model.safetensors").read_bytes()).hexdigest()
    assert row["template_digest"] == hashlib.sha256(Path("model/chat_template.jinja").read_bytes()).hexdigest()
    assert len(row["tokenizer_digest"]) == 64
    assert row["model_commit"] is None


COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.mark.slow
def test_a_name_may_carry_a_revision(tmp_path, monkeypatch):
    """Would catch a revision that reaches the configuration alone, and a record that does not say which commit it was.

    Two commits lie in a cache of the Hub, as its client lays them out; the network is off.
    """
    cache = tmp_path / "hub"
    for constant, value in (("HF_HUB_CACHE", str(cache)), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(f"huggingface_hub.constants.{constant}", value)
    repository = cache / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "refs" / "dev").write_text(OTHER)
    shutil.copytree("model", repository / "snapshots" / COMMIT)
    shutil.copytree("model", repository / "snapshots" / OTHER)
    weights = load_file("model/model.safetensors")
    weights["model.norm.weight"] *= 2
    other = repository / "snapshots" / OTHER
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    (other / "chat_template.jinja").write_text((other / "chat_template.jinja").read_text() + "{# other #}")

    names = {"org/name": COMMIT, f"org/name@{COMMIT}": COMMIT, "org/name@dev": OTHER, f"org/name@{OTHER}": OTHER}
    for name in names:
        done = kvcomm("run", name, "--in-process")
        assert done.exit_code == 0, done.stderr
    rows = {row["model"]: row for row in read_trials(Path("results/s")).to_pylist()}
    assert {name: row["model_commit"] for name, row in rows.items()} == names
    for field in ("weights_digest", "template_digest"):
        assert rows["org/name"][field] == rows[f"org/name@{COMMIT}"][field] != rows["org/name@dev"][field]
        assert rows["org/name@dev"][field] == rows[f"org/name@{OTHER}"][field]

    done = kvcomm("run", "org/name@gone", "--in-process")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'org/name@gone'; its config.json is not available: it is not in the Hub's cache, and the Hub" in done.stderr
    shutil.copytree("model", "some/folder@home")
    assert kvcomm("plan", "some/folder@home").exit_code == 0
