"""A kind of trial is one file: a made-up one goes from a sweep file to a table, and no other file knows of it.

These tests would catch anybody who asks which kind a trial is by its name or class: the plan, the trial, the results on
disk, what is done, the estimate of the time, and the table.
"""

import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from harness.workloads import built_in
from sweeps.cli import app

ROOT = Path(__file__).parents[2]

COINS = """
name: coins
model: random:smollm2-135m
workload: {name: "coin_workload:Coins"}
grid:
  workload.throws: [5, 50]
"""


@pytest.fixture
def kvcomm(tmp_path, monkeypatch):
    """``kvcomm(text, *command)``: the exit code and what was printed for a sweep file of that text. Without MLflow,
    whose store takes seconds to make."""
    monkeypatch.setitem(sys.modules, "mlflow", None)

    def call(text: str, *command: str) -> tuple[int, str]:
        (tmp_path / "sweep.yaml").write_text(text, encoding="utf-8")
        outcome = CliRunner().invoke(
            app, [arg.format(sweep=tmp_path / "sweep.yaml", results=tmp_path) for arg in command]
        )
        return outcome.exit_code, outcome.output

    return call


PLAN = ("plan", "{sweep}", "--results", "{results}")


@pytest.mark.slow
def test_a_made_up_kind_runs_from_yaml_to_table(tmp_path, kvcomm):
    code, text = kvcomm(COINS, *PLAN)
    assert (code, "2 to run" in text) == (0, True), text
    code, text = kvcomm(COINS, "run", "{sweep}", "--results", "{results}", "--in-process")
    assert code == 0, text
    assert "2 trial(s) threw coins" in text
    files = list((tmp_path / "coins" / "kv_statistics").iterdir())
    heads = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert sorted((row["measure"], row["n"]) for row in heads) == [("heads", 5), ("heads", 50)]
    assert json.loads(kvcomm(COINS, "show", "{results}", "--json")[1])["coins"] == 2
    assert "2 done" in kvcomm(COINS, *PLAN)[1]
    files[0].unlink()  # a table of its own: without it the attempt is not whole
    assert "1 done" in kvcomm(COINS, *PLAN)[1]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("coins", "workload.name is 'coins'; allowed: "),
        ("no_such_module:Coins", "it cannot be imported"),
        ("coin_workload:throw", "it is no class of Workload"),
        ("json:loads", "it is no class of Workload"),
    ],
)
def test_what_is_no_workload_is_refused(kvcomm, name, line):
    code, text = kvcomm(COINS.replace("coin_workload:Coins", name), *PLAN)
    assert code == 2
    assert line in text


def test_a_field_that_the_made_up_kind_lacks_is_refused(kvcomm):
    code, text = kvcomm(COINS.replace("throws", "thros"), *PLAN)
    assert code == 2
    assert "did you mean workload.throws?" in text


def test_nobody_asks_for_a_kind_by_its_class():
    """Catches an ``isinstance`` on a workload outside of the module that runs it, whose assertion narrows the type."""
    classes = "|".join(workload.__name__ for workload in built_in().values())
    asked = re.compile(rf"isinstance\([^()]*\b({classes})\b")
    for package in ("kvcomm_core", "harness", "sweeps", "analysis"):
        for file in (ROOT / package).rglob("*.py"):
            for line in file.read_text(encoding="utf-8").splitlines():
                assert not asked.search(line) or "whose runner this is" in line, f"{file}: {line}"
