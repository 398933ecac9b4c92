"""``kvcomm new``: what it writes can be planned and run, and nothing is overwritten."""

import json
import sys
from pathlib import Path

import pytest
from tiny_models import tiny_chat_model
from typer.testing import CliRunner

import kvcomm_core.models.loading
from harness.results.sweep_folder import read_trials
from sweeps.cli import app


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(sys, "path", [*sys.path])


def kvcomm(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_new_sweep():
    """Catches a template of an earlier version of the language, and a name that was not filled in."""
    done = kvcomm("new", "sweep", "deep/first")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("deep/first/sweep.yaml\n\nnext: kvcomm plan deep/first/sweep.yaml\n")
    text = Path("deep/first/sweep.yaml").read_text(encoding="utf-8")
    assert "NAME" not in text
    assert "DIR" not in text
    planned = kvcomm("plan", "deep/first/sweep.yaml", "--json")
    assert planned.exit_code == 0
    assert json.loads(planned.stdout)["sweep"] == "first"


def test_a_new_team():
    """Catches a template that the reader of teams no longer takes, and a team that is not the one of the sweep."""
    assert kvcomm("new", "team", "deep/own").exit_code == 0
    done = kvcomm("plan", "deep/own/sweep.yaml", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n_trials"] == 3
    drawn = kvcomm("plan", "deep/own/sweep.yaml", "--topology").stdout
    assert all(role in drawn for role in ("Planner", "Checker", "Writer"))


@pytest.mark.slow
def test_a_new_method_runs(monkeypatch):
    """Catches a template that the engine no longer takes, and one whose reuse changes answers."""
    monkeypatch.setattr(kvcomm_core.models.loading, "load_model", lambda name, dtype, weights: tiny_chat_model())
    assert kvcomm("new", "method", "mine").exit_code == 0
    done = kvcomm("run", "mine/sweep.yaml", "--in-process", "--limit", 1)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    rows = read_trials(Path("results/mine")).to_pylist()
    assert {(row["method"], row["status"]) for row in rows} == {("dense", "ok"), ("method_mine:Reuse", "ok")}
    reused = [row for row in rows if row["method"] != "dense"]
    assert len(reused) == 2
    assert len({row["token_reuse_rate"] for row in reused}) == 2
    assert all(0 < row["token_reuse_rate"] < 1 for row in reused)


@pytest.mark.parametrize("kind", ["sweep", "team", "method"])
def test_nothing_is_overwritten(kind):
    """Catches work that is lost, and half of the files being written."""
    Path("mine").mkdir()
    Path("mine/sweep.yaml").write_text("my work", encoding="utf-8")
    done = kvcomm("new", kind, "mine")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "kvcomm: mine/sweep.yaml exists; allowed: a folder without it, since nothing is overwritten\n"
    )
    assert [path.name for path in Path("mine").iterdir()] == ["sweep.yaml"]
    assert Path("mine/sweep.yaml").read_text(encoding="utf-8") == "my work"


def test_bad_folders():
    """Catches a name that no module can have, and a traceback where nothing can be written."""
    Path("file").touch()
    for folder, message in (
        ("my-method", "DIR is my-method, whose name is 'my-method'; allowed: letters, digits and '_'"),
        ("1st", "DIR is 1st, whose name is '1st'; allowed: letters"),
        ("file/mine", "file/mine cannot be written: Not a directory"),
    ):
        done = kvcomm("new", "method", folder)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"kvcomm: {message}")
        assert len(done.stderr.splitlines()) == 1
