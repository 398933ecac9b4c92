"""``kvcomm check-method``: one page, one JSON document, or one line for bad input."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kvcomm_core.conformance.running import CHECKS
from sweeps.cli import app

ROOT = Path(__file__).parents[3]


def check(*arguments):
    return CliRunner().invoke(app, ["check-method", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds folders to it


def test_a_page_of_what_does_not_run():
    """Catches a page wider than a terminal, a check that did not run and reads as passed, and exit code 0 for it."""
    done = check("printing_method:Loud")
    lines = done.stdout.splitlines()
    assert done.exit_code == 1
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Method printing_method:Loud, with its default parameters"
    ends = [
        line.rstrip().split("  ")[-1].strip() for line in lines if line.rstrip().endswith(("FAILED", "not run", "ok"))
    ]
    assert ends == ["FAILED", *["not run"] * (len(CHECKS) - 1)]
    assert lines[-1].startswith("1 check failed in ")
    assert "found RuntimeError: it breaks" in done.stdout


@pytest.mark.slow
def test_a_page_and_what_failed():
    """Catches a page wider than a terminal, a failed check that reads as passed, and exit code 0 for it."""
    done = check("faulty_methods:KVCommWith", "--family", "llama", "--set", "kvcommwith.mistake=loses its state")
    lines = done.stdout.splitlines()
    assert done.exit_code == 1
    assert max(map(len, lines)) <= 80
    cells = {line.split()[0]: line.split()[-2:] for line in lines if line.split()[-1:] in (["ok"], ["FAILED"])}
    assert cells == {each.name: ["FAILED" if each.name == "state" else "ok"] * 2 for each in CHECKS}
    assert "FAILED state (float32: llama; bfloat16: llama)" in lines
    assert "kvcommwith" not in lines[0]
    assert "with mistake='loses its state'" in " ".join(lines[:2])
    assert lines[-1].startswith("1 check failed in ")


def test_a_document(capfd):
    """Catches text beside the JSON, as a method may print what it likes, and results without their place."""
    done = check("printing_method:Loud", "--family", "qwen2", "--family", "llama", "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert (document["method"], document["passed"]) == ("printing_method:Loud", False)
    assert {(r["check"], r["family"], r["dtype"]) for r in document["results"]} == {
        ("runs", family, dtype) for family in ("qwen2", "llama") for dtype in ("float32", "bfloat16")
    }
    assert {r["found"] for r in document["results"]} == {"RuntimeError: it breaks"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing"], "method is 'nothing'; allowed: dense, prefix, naive, "),
        (["gone.py:X"], "method is 'gone.py:X'; gone.py is no file; allowed: a name, module:Class or file.py:Class"),
        (["faulty_methods:Gone"], "method is 'faulty_methods:Gone'; it cannot be imported"),
        (["kvcomm", "--set", "kvcomm.gama=1"], "'kvcomm.gama' is not a parameter of kvcomm; did you mean kvcomm.gamma"),
        (["kvcomm", "--set", "kvcomm.gamma=3"], "kvcomm.gamma is 3.0; allowed: 0 to 1"),
        (["kvcomm", "--set", "kvcomm.gamma=[0.1, 0.2]"], "kvcomm.gamma is [0.1, 0.2]; allowed: a number"),
        (["dense", "--set", "dense.x=1"], "--set dense.x is given, but dense has no parameters"),
        (["dense", "--family", "gpt9"], "--family is 'gpt9'; allowed: llama"),
    ],
)
def test_bad_input_is_one_line(arguments, line):
    """Catches a traceback, a check of something else than what was asked for, and exit code 1."""
    done = check(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"kvcomm: {line}")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_whose_name_is_taken(tmp_path):
    """Catches another module checked instead of the file."""
    (tmp_path / "json.py").write_text("class X: pass\n")
    done = check(tmp_path / "json.py:X")
    assert done.exit_code == 2
    assert "the module name 'json' is taken" in done.stderr
