"""All files of the paper at once: `plan --all` and `run --all`."""

import json
import sys

import pytest
from typer.testing import CliRunner

from harness.results.read_back import read_rows
from sweeps.cli import app
from sweeps.plan import paper_files

MODEL = "random:smollm2-135m"
TABLE_1 = f"""
name: table_1
grid: {{method: [dense, kvcomm]}}
profiles:
  paper: {{model: far/away, workload: {{name: recall, limit: 9}}}}
  embedded: {{model: "{MODEL}", workload: {{name: recall, limit: 2}}}}
"""
TABLE_5 = f"""
name: table_5
take_from: [table_1]
list: [{{method: dense}}, {{method: kvcomm, kvcomm.text_offset: false}}, {{method: kvcomm, agents: 2}}]
profiles:
  paper: {{model: "{MODEL}", workload: {{name: recall, limit: 9}}}}
  embedded: {{model: "{MODEL}", workload: {{name: recall, limit: 2}}}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Two files of a paper, one of which takes a trial from the other."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    papers = tmp_path / "paper"
    papers.mkdir()
    (papers / "table_1.yaml").write_text(TABLE_1)
    (papers / "table_5.yaml").write_text(TABLE_5)
    monkeypatch.setattr(paper_files, "FOLDER", papers)
    return papers


def kvcomm(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines_of(*arguments):
    done = kvcomm("plan", "--all", "--json", *arguments)
    return {(line["file"], line["profile"]): line for line in json.loads(done.stdout)["files"]}


def test_order_of_the_papers_files(folder):
    """Catches table A.12 before table A.3, and a file before the one whose trials it takes."""
    for name in ("figure_1", "table_a2", "table_a12", "figure_a4_a11", "figure_a12", "figure_a3"):
        (folder / f"{name}.yaml").write_text("name: x")
    names = [path.stem for path in paper_files.paper_files()]
    assert names[:4] == ["table_1", "table_5", "table_a2", "table_a12"]
    assert names[4:] == ["figure_1", "figure_a3", "figure_a4_a11", "figure_a12"]


def test_plan_all_has_a_line_for_each_profile():
    """Catches a model or a file that is not at hand hiding the other lines, and shared trials counted twice."""
    lines = lines_of()
    counts = {
        key: [line[f"n_{name}"] for name in ("trials", "done", "shared", "to_run")] for key, line in lines.items()
    }
    assert counts == {
        ("table_1.yaml", "paper"): [2, 0, 0, 2],
        ("table_1.yaml", "embedded"): [2, 0, 0, 2],
        ("table_5.yaml", "paper"): [3, 0, 0, 3],
        ("table_5.yaml", "embedded"): [3, 0, 1, 2],
    }
    assert [line["n_samples"] for line in lines.values()] == [18, 4, 27, 6]
    assert "far/away" in lines["table_1.yaml", "paper"]["missing"][0]
    assert {line["time"] for line in lines.values()} == {None}
    text = kvcomm("plan", "--all").stdout.splitlines()
    assert text[-2].split()[:7] == ["all", "embedded", "5", "10", "0", "1", "4"]
    assert text[-1].startswith("missing here: model is 'far/away'")


def test_plan_all_names_a_file_that_cannot_be_planned(folder):
    """Catches one bad file that hides the others, or passes unnoticed by a script."""
    (folder / "table_1.yaml").write_text("name: table_1\nagnets: 3")
    done = kvcomm("plan", "--all", "--profile", "embedded")
    assert done.exit_code == 2
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["table_5", "embedded", "3", "6", "0", "0", "3", "unknown", "-"] in rows
    assert "table_1.yaml: 'agnets' is not a key of a sweep file" in done.stdout


def test_run_all_shares_trials_and_goes_on(made_up, tmp_path):
    """Catches a shared trial that is run twice, and a second run that begins anew."""
    _, ran = made_up
    done = kvcomm("run", "--all", "--profile", "embedded", "--in-process")
    assert done.exit_code == 0
    assert [(spec.method, spec.agents) for spec in ran] == [("dense", 3), ("kvcomm", 3), ("kvcomm", 3), ("kvcomm", 2)]
    assert done.stdout.splitlines()[-1] == "2 of 2 files are done"
    assert {row.sweep for row in read_rows(tmp_path / "results" / "table_5")} == {"table_5"}
    assert kvcomm("run", "--all", "--profile", "embedded", "--in-process").exit_code == 0
    assert len(ran) == 4
    (line,) = [line for (file, _), line in lines_of("--profile", "embedded").items() if file == "table_5.yaml"]
    assert (line["n_done"], line["n_to_run"]) == (3, 0)


def test_run_all_goes_past_what_fails(made_up, folder):
    """Catches the files after a bad one left out, and a failure that the exit code hides."""
    replica, ran = made_up
    (folder / "table_1.yaml").write_text("name: table_1\nagnets: 3")
    done = kvcomm("run", "--all", "--profile", "embedded", "--in-process")
    assert done.exit_code == 2
    assert len(ran) == 3
    assert done.stdout.splitlines()[-1] == "1 of 2 files are done; not: table_1 (exit code 2)"
    replica.failing = True
    (folder / "table_1.yaml").write_text(TABLE_1)
    done = kvcomm("run", "--all", "--profile", "embedded", "--in-process")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "1 of 2 files are done; not: table_1 (exit code 1)"


def test_run_all_ends_where_it_is_interrupted(monkeypatch):
    """Catches Ctrl-C that ends one file and starts the next."""
    asked = []

    def interrupted(*arguments, **others):
        asked.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("sweeps.run.in_process.run_in_process", interrupted)
    assert kvcomm("run", "--all", "--profile", "embedded", "--in-process").exit_code == 130
    assert len(asked) == 1


@pytest.mark.parametrize("command", ["plan", "run"])
def test_one_file_or_all(command):
    """Catches a command that takes neither for all, or ignores one of them."""
    done = kvcomm(command)
    assert (done.exit_code, done.stderr) == (2, "kvcomm: neither SWEEP nor --all is given; allowed: one of them\n")
    done = kvcomm(command, "x.yaml", "--all")
    assert (done.exit_code, done.stderr) == (2, "kvcomm: SWEEP and --all are both given; allowed: one of them\n")
