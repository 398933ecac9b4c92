"""The command as people and scripts meet it: exit codes, one line for bad input, JSON and nothing else."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from made_up import with_fidelity
from typer.testing import CliRunner

from harness.replica import Replica
from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.results.uri_mirror import Mirror
from harness.spec import TrialSpec
from sweeps.cli import app
from sweeps.language.sweep_spec import load_sweep

SWEEP = """
name: small
model: random:smollm2-135m
workload: {name: recall, limit: 2}
grid:
  agents: [2, 3]
  method: [dense, kvcomm]
"""

NOT_A_FOLDER = "kvcomm: results folder file/results/small cannot be written: Not a directory"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    Path("sweep.yaml").write_text(SWEEP)


def kvcomm(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


BAD = {
    "misspelt key": "name: x\nagnets: 3",
    "wrong type": "name: x\nagents: '3'",
    "unknown model": "name: x\nmodel: nonsense",
    "unknown shape": "name: x\nmodel: random:nonsense",
    "model file that is not there": "name: x\nmodel: ./missing.gguf",
    "empty grid": "name: x\ngrid: {}",
    "empty axis": "name: x\ngrid: {agents: []}",
    "negative threshold": "name: x\nmethod: kvcomm\nkvcomm.gamma: -0.1",
    "data that is not there": "name: x\nmodel: random:smollm2-135m\nworkload: {name: gsm8k, path: missing.jsonl}",
}


@pytest.mark.parametrize("command", [("run",), ("run", "--in-process"), ("plan",), ("plan", "--json")])
@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_bad_sweep(command, text):
    """Catches a traceback, another exit code, output that a script would take for a result, and files left behind."""
    Path("sweep.yaml").write_text(text)
    done = kvcomm(*command, "sweep.yaml")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("kvcomm: ")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_options(command):
    """Catches --set and --limit being checked less than the file."""
    for options in (["--set", "agents=[]"], ["--set", "agents"], ["--limit", "0"], ["--set", "kvcomm.gamma=-1"]):
        done = kvcomm(command, "sweep.yaml", *options)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    done = kvcomm(command, "missing.yaml")
    assert (done.exit_code, done.stderr) == (2, "kvcomm: missing.yaml: cannot be read: No such file or directory\n")


def test_results_folder_that_cannot_be_written(made_up):
    """Catches a sweep that runs and cannot keep what it found (a file stands where the folder should be)."""
    Path("file").write_text("")
    done = kvcomm("run", "sweep.yaml", "--in-process", "--results", "file/results")
    assert done.exit_code == 2
    assert done.stderr.startswith(NOT_A_FOLDER)
    assert made_up[1] == []


@pytest.mark.slow
def test_results_folder_that_cannot_be_written_with_ray():
    """Catches the same on the way through Ray, and a cluster left running."""
    ray = pytest.importorskip("ray")
    Path("file").write_text("")
    done = kvcomm("run", "sweep.yaml", "--results", "file/results")
    assert done.exit_code == 2
    assert done.stderr.startswith(NOT_A_FOLDER)
    assert not ray.is_initialized()


def test_results_that_are_not_there():
    """Catches an empty table for a mistyped folder."""
    for command in ("status", "show"):
        done = kvcomm(command, "nowhere")
        assert done.exit_code == 2
        assert done.stderr == "kvcomm: nowhere holds no results (no <sweep>/trials folder)\n"


@pytest.mark.slow
def test_results_at_a_uri(made_up, tmp_path, monkeypatch):
    """Catches results that stay on the machine that made them, and a folder called ``file:``."""
    _, ran = made_up
    uri = (tmp_path / "bucket").as_uri()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    done = kvcomm("run", "sweep.yaml", "--in-process", "--results", uri)
    assert (done.exit_code, len(ran)) == (0, 4)
    assert f"Parquet: {uri}/small/" in done.stdout
    assert len(list((tmp_path / "bucket" / "small" / "trials").iterdir())) == 4

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert json.loads(kvcomm("plan", "sweep.yaml", "--results", uri, "--json").stdout)["n_pending"] == 0
    assert json.loads(kvcomm("status", uri, "--json").stdout)["sweeps"][0]["n_ok"] == 4
    assert kvcomm("run", "sweep.yaml", "--in-process", "--results", uri).exit_code == 0
    assert len(ran) == 4
    assert not list(tmp_path.glob("file*"))
    done = kvcomm("run", "sweep.yaml", "--results", "ftp://host/x")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.slow
def test_a_uri_that_is_away_meanwhile(made_up, tmp_path, monkeypatch):
    """Catches a sweep that ends because the network did, and results that never arrive afterwards."""
    bucket = tmp_path / "bucket"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    away = iter([False, True])  # the first copy is that of what an earlier run left

    def sometimes(copy):
        def copied(*arguments):
            if next(away, False):
                raise StoreError("results at file:///bucket cannot be read or written: away")
            return copy(*arguments)

        return copied

    monkeypatch.setattr(Mirror, "push", sometimes(Mirror.push))
    monkeypatch.setattr(Mirror, "push_attempt", sometimes(Mirror.push_attempt))
    done = kvcomm("run", "sweep.yaml", "--in-process", "--results", bucket.as_uri())
    assert done.exit_code == 0
    assert done.stdout.count("cannot be read or written: away; the sweep goes on in ") == 1
    assert len(list((bucket / "small" / "trials").iterdir())) == 4


@pytest.mark.slow
def test_a_uri_that_is_away_at_the_end(made_up, tmp_path, monkeypatch):
    """Catches results that the same command leaves on the machine, and calls done, since no trial is left to run."""
    _, ran = made_up
    bucket = tmp_path / "bucket"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    away = StoreError("results at file:///bucket cannot be read or written: away")
    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "push_attempt", Mock(side_effect=away))
        patched.setattr(Mirror, "push", Mock(side_effect=[0, *[away] * 9]))
        done = kvcomm("run", "sweep.yaml", "--in-process", "--results", bucket.as_uri())
    assert (done.exit_code, len(ran)) == (2, 4)
    assert not (bucket / "small" / "trials").exists()
    again = kvcomm("run", "sweep.yaml", "--in-process", "--results", bucket.as_uri())
    assert (again.exit_code, len(ran)) == (0, 4)
    assert len(list((bucket / "small" / "trials").iterdir())) == 4


@pytest.mark.slow
def test_run_then_again_then_with_a_file_deleted(made_up):
    """Catches a resume that runs too much or too little."""
    _, ran = made_up
    done = kvcomm("run", "sweep.yaml", "--in-process")
    assert done.exit_code == 0
    assert len(ran) == 4
    assert "Parquet: results/small/{trials,turns,samples}/*.parquet" in done.stdout
    assert "kvcomm ui results\n" in done.stdout
    again = kvcomm("run", "sweep.yaml", "--in-process")
    assert again.exit_code == 0
    assert again.stdout.startswith("nothing to run: 4 of 4 trials are done\n")
    assert len(ran) == 4
    for table, victim in zip(("trials", "turns", "samples"), ran[:3], strict=True):
        Path("results/small", table, f"{victim.trial_id}-1.parquet").unlink()
        assert kvcomm("run", "sweep.yaml", "--in-process").exit_code == 0
        assert ran[4:] == [victim]
        del ran[4:]


@pytest.mark.slow
def test_failures_are_exit_code_1_and_are_run_again(made_up):
    """Catches a failed sweep that a script takes for a good one, and failures that are never tried again."""
    replica, ran = made_up
    replica.failing = True
    assert kvcomm("run", "sweep.yaml", "--in-process").exit_code == 1
    (status,) = json.loads(kvcomm("status", "results", "--json").stdout)["sweeps"]
    assert (status["n_trials"], status["n_ok"], status["n_failed"], status["n_left"]) == (4, 2, 2, 0)
    assert {failure["trial_id"] for failure in status["failures"]} == {s.trial_id for s in ran if s.agents == 3}
    assert "ValueError: attempt 1 went wrong" in kvcomm("status", "results").stdout
    replica.failing = False
    assert kvcomm("run", "sweep.yaml", "--in-process").exit_code == 0
    assert len(ran) == 6
    (status,) = json.loads(kvcomm("status", "results", "--json").stdout)["sweeps"]
    assert (status["n_ok"], status["n_failed"]) == (4, 0)


def test_profile(made_up):
    """Catches --profile reaching one of the two commands only, and a file that needs one run without."""
    _, ran = made_up
    Path("sweep.yaml").write_text(SWEEP + "profiles: {small: {agents: 2}, wide: {seed: [0, 1, 2]}}\n")
    for command in (["plan"], ["run", "--in-process"]):
        done = kvcomm(*command, "sweep.yaml")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == "kvcomm: sweep.yaml: no profile is chosen; allowed: --profile small or wide\n"
    assert json.loads(kvcomm("plan", "sweep.yaml", "--profile", "wide", "--json").stdout)["n_trials"] == 12
    assert kvcomm("run", "sweep.yaml", "--in-process", "--profile", "small").exit_code == 0
    assert [spec.agents for spec in ran] == [2, 2]
    (status,) = json.loads(kvcomm("status", "results", "--json").stdout)["sweeps"]
    assert (status["n_trials"], status["n_ok"]) == (2, 2)


def test_interrupt(made_up, monkeypatch):
    """Catches Ctrl-C ending in a traceback, or without a word on what is kept."""
    replica, ran = made_up

    def interrupted(self, spec, *arguments, run=Replica.run):
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run(self, spec, *arguments)

    monkeypatch.setattr(replica, "run", interrupted)
    done = kvcomm("run", "sweep.yaml", "--in-process")
    assert done.exit_code == 130
    assert "interrupted: 2 of 4 trials are done" in done.stdout


def test_plan_runs_and_writes_nothing(made_up):
    """Catches a plan with side effects, and numbers that do not add up."""
    document = json.loads(kvcomm("plan", "sweep.yaml", "--json").stdout)
    assert (document["n_trials"], document["n_done"], document["n_pending"]) == (4, 0, 4)
    assert document["prompt_tokens"] == sum(trial["cost"]["prompt_tokens"] for trial in document["trials"])
    assert document["estimate"] is None
    assert "time unknown: no earlier trial of the model; " in kvcomm("plan", "sweep.yaml").stdout
    assert [trial["trial_id"] for trial in document["trials"]] == [
        trial.trial_id for trial in load_sweep(Path("sweep.yaml")).trials
    ]
    assert [path.name for path in Path().iterdir()] == ["sweep.yaml"]
    assert made_up[1] == []
    kvcomm("run", "sweep.yaml", "--in-process", "--set", "agents=2")
    document = json.loads(kvcomm("plan", "sweep.yaml", "--json").stdout)
    assert [trial["state"] for trial in document["trials"]] == ["done", "done", "to run", "to run"]
    assert document["estimate"]["low_s"] > 0
    text = kvcomm("plan", "sweep.yaml").stdout
    assert "small: 4 trials, 2 done, 2 to run on 1 replica(s)" in text
    assert "by 2 earlier trials on cpu" in text
    assert [line.split() for line in text.splitlines() if line.startswith("recall, ")] == [
        ["recall,", "2", "agents", "done", "done"],
        ["recall,", "3", "agents", "7", "s", "7", "s"],
    ]


def test_plan_draws_the_axes_and_tells_repeats_apart():
    """Catches a plan in which repetitions look like the same trial twice, and axes that only the file shows."""
    Path("sweep.yaml").write_text(SWEEP + "repeats: 2\nexclude: [{agents: 3, method: dense}]\n")
    lines = [line.rstrip() for line in kvcomm("plan", "sweep.yaml").stdout.splitlines()]
    assert lines[:5] == [
        "grid     agents: 2, 3",
        "grid     method: dense, kvcomm",
        "repeats  seed: 0, 1",
        "exclude  1 rule(s) drop 2 of 8 combinations",
        "trials   6 different ones in 6 combinations",
    ]
    assert [line.split() for line in lines[5:9]] == [
        ["dense", "kvcomm"],
        ["recall,", "2", "agents", "?;", "?", "?;", "?"],
        ["recall,", "3", "agents", "-", "?;", "?"],
        [],
    ]
    assert lines[10].split()[:3] == ["trial", "cell", "state"]
    assert [line.split(" to run")[0].split()[-2:] for line in lines[11:17]] == [["seed", "0"]] * 3 + [["seed", "1"]] * 3
    assert json.loads(kvcomm("plan", "sweep.yaml", "--json").stdout)["axes"] == lines[:5]


def test_what_is_left_out_is_said(made_up):
    """Catches trials that vanish without a word."""
    Path("sweep.yaml").write_text(
        "name: x\nmodel: random:smollm2-135m\nskip_if_missing: [gsm8k]\n"
        "grid: {workload: [recall, {name: gsm8k, path: missing.jsonl}], agents: [2, 3]}"
    )
    document = json.loads(kvcomm("plan", "sweep.yaml", "--json").stdout)
    assert (document["n_pending"], document["n_left_out"]) == (2, 2)
    assert "missing.jsonl" in document["missing"]["gsm8k"]
    for command in (["plan", "sweep.yaml"], ["run", "sweep.yaml", "--in-process"]):
        assert "left out, 2 trials: " in kvcomm(*command).stdout
    again = kvcomm("run", "sweep.yaml", "--in-process").stdout
    assert "nothing to run: 2 of 4 trials are done, 2 left out" in again


@pytest.mark.slow
def test_show(made_up):
    """Catches --json that is not what the table says, or that prints more than the document."""
    kvcomm("run", "sweep.yaml", "--in-process")
    cells = json.loads(kvcomm("show", "results", "--json").stdout)["cells"]
    assert [(cell["agents"], cell["method"], cell["speedup"]) for cell in cells] == [
        (2, "dense", None),
        (2, "kvcomm", 2.0),
        (3, "dense", None),
        (3, "kvcomm", 2.0),
    ]
    assert kvcomm("show", "results").stdout.count("2.00x") == 2


@pytest.mark.slow
def test_show_without_the_first_samples(made_up, make_result):
    """Catches --from-sample that is ignored, and one beyond the last sample that gives an empty table."""
    kvcomm("run", "sweep.yaml", "--in-process")
    document = json.loads(kvcomm("show", "results", "--json", "--from-sample", "1").stdout)
    assert document["from_sample"] == 1
    assert [cell["n_samples"] for cell in document["cells"]] == [1] * 4
    for first in ("2", "-1"):
        done = kvcomm("show", "results", "--from-sample", first)
        assert done.exit_code == 2
        assert done.stderr == f"kvcomm: --from-sample is {first}; allowed: 0 to 1, the index of the last sample\n"


def test_show_fidelity_where_it_was_measured(make_result):
    """Catches a second table of dashes for sweeps that measured nothing, and none for those that did."""
    reuse = TrialSpec(method="kvcomm")
    writer = ResultsWriter(Path("results"), "small")
    writer.write(make_result(reuse))
    assert "compared with dense" not in kvcomm("show", "results").stdout
    writer.write(with_fidelity(make_result(reuse, attempt=2), lambda turn: 0.125))
    writer.close()
    shown = kvcomm("show", "results").stdout
    assert "compared with dense on the same prompts" in shown
    assert "0.125" in shown
    assert "0.250" in shown, "over the answer"


def test_show_the_arena(make_result):
    """Catches an option that other options silently exclude, and a folder without answers shown as an empty page."""
    writer = ResultsWriter(Path("results"), "small")
    writer.write(make_result(TrialSpec(), status="error"))
    done = kvcomm("show", "results", "--arena")
    allowed = "allowed: results of such trials"
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr == f"kvcomm: --arena is given for results without a graded trial that ended well; {allowed}\n"
    for spec in (TrialSpec(), TrialSpec(method="kvcomm", fidelity=1.0)):
        result = make_result(spec, attempt=2)
        writer.write(with_fidelity(result, lambda turn: 0.125) if spec.fidelity else result)
    writer.close()
    assert "recall, 3 agents: 2 items" in kvcomm("show", "results", "--arena").stdout
    document = json.loads(kvcomm("show", "results", "--arena", "--from-sample", "1", "--json").stdout)
    assert document["from_sample"] == 1
    assert [row["kl_next_token"] and row["kl_next_token"]["value"] for row in document["arena"]] == [None, 0.125]
    done = kvcomm("show", "results", "--arena", "--paper", "1")
    assert (done.exit_code, done.stderr) == (
        2,
        "kvcomm: --arena is given with --paper or --beside; allowed: one of them\n",
    )
    done = kvcomm("show", "results", "--arena", "--from-sample", "7")
    assert done.stderr == "kvcomm: --from-sample is 7; allowed: 0 to 1, the index of the last sample\n"


def test_show_a_table_of_the_paper(made_up):
    """Catches a table number that is not known passing for one without results, and a gap that is not said."""
    kvcomm("run", "sweep.yaml", "--in-process")
    assert kvcomm("show", "results", "--paper", "a.2").stdout.count("not run") > 18
    table, stand_in = json.loads(kvcomm("show", "results", "--paper", "1", "--json").stdout)["paper_tables"]
    assert (table["number"], table["model"], len(table["rows"])) == ("1", None, 60)
    assert (stand_in["model"], stand_in["stand_in_for"], len(stand_in["rows"])) == ("random:smollm2-135m", "mmlu", 20)
    done = kvcomm("show", "results", "--paper", "7")
    assert done.exit_code == 2
    assert done.stderr == "kvcomm: --paper is 7; allowed: 1, 2, 3, 4, 5, 6, A.2, A.3, A.4, A.5, A.6\n"


@pytest.mark.slow
def test_show_beside_an_arm(made_up):
    """Catches an arm of one sweep looked for in all, an unknown arm taken for one without changes, and options that
    silently exclude each other."""
    kvcomm("run", "sweep.yaml", "--in-process")
    (sweep,) = json.loads(kvcomm("show", "results", "--beside", "kvcomm", "--json").stdout)["sweeps"].values()
    assert {row["accuracy_change"] for row in sweep} == {None}, "an arm is not compared with itself"
    assert "small:\nchanges from kvcomm" in kvcomm("show", "results", "--beside", "kvcomm").stdout
    done = kvcomm("show", "results", "--beside", "naive")
    assert (done.exit_code, done.stderr) == (2, "kvcomm: --beside is 'naive'; allowed: 'dense', 'kvcomm'\n")
    done = kvcomm("show", "results", "--beside", "kvcomm", "--paper", "1")
    assert (done.exit_code, done.stderr) == (2, "kvcomm: --beside is kvcomm, and --paper 1; allowed: one of them\n")


@pytest.mark.slow
def test_figures(made_up, blank_pictures):
    """Catches figures that are silently left out, files elsewhere than said, and --json that says something else."""
    kvcomm("run", "sweep.yaml", "--in-process")
    done = kvcomm("figures", "results", "--out", "drawn")
    assert done.exit_code == 0
    assert "drawn/small/accuracy_ttft.{svg,pdf,png,csv}\n" in done.stdout
    assert "left out: fidelity_layers needs trials with fidelity above 0" in done.stdout
    assert all(path.stat().st_size for path in Path("drawn/small").iterdir())
    document = json.loads(kvcomm("figures", "results", "--out", "drawn", "--json").stdout)
    assert {file for one in document["saved"] for file in one["files"]} == {
        str(p) for p in Path("drawn/small").iterdir()
    }
    assert "fidelity_layers" in {one["name"] for one in document["left_out"]}
    assert kvcomm("figures", "results", "--out", "slides", "--style", "slides").exit_code == 0
    refused = kvcomm("figures", "results", "--out", "drawn", "--style", "poster")
    assert refused.exit_code == 2
    assert all(name in refused.stderr for name in ("acm", "neurips", "slides"))


@pytest.mark.slow
def test_figures_without_the_first_samples(made_up, make_result, blank_pictures):
    """Catches --from-sample that is ignored, also by the figure that is not made of the tables."""
    kvcomm("run", "sweep.yaml", "--in-process")
    writer = ResultsWriter(Path("results"), "layers")
    writer.write(with_fidelity(make_result(TrialSpec(method="kvcomm"), samples=3), lambda turn: 0.1))
    writer.close()
    rows = {}
    for first in (0, 2):
        assert kvcomm("figures", "results", "--out", f"from-{first}", "--from-sample", first).exit_code == 0
        rows[first] = Path(f"from-{first}/layers/fidelity_layers_recall_3_agents_agent_1.csv").read_text()
    assert rows[0] != rows[2]
    assert not Path("from-2/small").exists()
    done = kvcomm("figures", "results", "--out", "drawn", "--from-sample", "3")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "kvcomm: --from-sample is 3; allowed: 0 to 2, the index of the last sample\n"


@pytest.mark.slow
def test_figures_that_cannot_be(made_up, blank_pictures):
    """Catches a traceback, and an empty folder that passes for figures."""
    made_up[0].failing = True
    kvcomm("run", "sweep.yaml", "--in-process", "--set", "agents=3")
    done = kvcomm("figures", "results", "--out", "drawn")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("kvcomm: results holds nothing for a figure; kvcomm run smoke makes ")
    assert not Path("drawn").exists()
    kvcomm("run", "sweep.yaml", "--in-process", "--set", "agents=2")
    Path("file").write_text("")
    done = kvcomm("figures", "results", "--out", "file")
    assert (done.exit_code, done.stderr) == (2, "kvcomm: file/small cannot be written: Not a directory\n")
    assert kvcomm("figures", "nowhere", "--out", "drawn").stderr.startswith("kvcomm: nowhere holds no results")


def test_a_second_run_at_the_same_time_is_refused(made_up):
    """Catches two controllers writing the same attempts."""
    writer = ResultsWriter(Path("results"), "small")
    done = kvcomm("run", "sweep.yaml", "--in-process")
    assert done.exit_code == 2
    assert done.stderr == "kvcomm: results folder results/small is in use by another kvcomm run\n"
    writer.close()


def test_without_ray(monkeypatch):
    """Catches a traceback on a machine that has no ray, instead of the way out."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sweeps.run.controller", raising=False)
    done = kvcomm("run", "sweep.yaml")
    assert done.exit_code == 2
    assert done.stderr.startswith("kvcomm: kvcomm run needs ray, not installed here: pip install 'kvcomm-harness[run]'")
    assert done.stderr.endswith("; or run with --in-process\n")
    assert not Path("results").exists()


@pytest.mark.slow
def test_doctor():
    """Catches a doctor that fails on the machine it should diagnose, or prints more than JSON."""
    document = json.loads(kvcomm("doctor", "--json").stdout)
    found = {finding["name"]: finding["found"] for finding in document["findings"]}
    assert found["torch"]
    assert found["cpu"]
    assert found["recall"]
    assert "gsm8k" in found
    assert document["environment"]["threads"] >= 1


@pytest.fixture
def finished(make_result):
    """Results of a dense trial, in the folder ``results`` and, slower by half, in ``after``; and the sweep's file."""
    spec = TrialSpec(model="random:smollm2-135m", agents=2)
    for folder, factor in (("results", 1.0), ("after", 1.5)):
        result = make_result(spec, sweep="small", samples=6)
        turns = [dataclasses.replace(turn, ttft_s=turn.ttft_s * factor) for turn in result.turns]
        writer = ResultsWriter(Path(folder), "small")
        writer.write(dataclasses.replace(result, turns=turns))
        writer.write_text("sweep.yaml", SWEEP)
        writer.close()


@pytest.mark.slow
def test_report(finished, blank_pictures):
    """Catches a page that is not written where it was asked for, and a sweep file that takes the page down."""
    done = kvcomm("report", "results", "--out", "pages/report.html")
    assert (done.exit_code, done.stdout) == (0, "pages/report.html\n")
    assert "the sweep file names 4" in Path("pages/report.html").read_text()
    Path("results/small/sweep.yaml").write_text("name: [")
    assert kvcomm("report", "results", "--out", "pages/report.html").exit_code == 0
    assert "Which trials were planned is unknown" in Path("pages/report.html").read_text()
    for arguments in (("nowhere", "--out", "x.html"), ("results", "--out", "sweep.yaml/x.html")):
        done = kvcomm("report", *arguments)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_claims(finished):
    """Catches JSON with something around it, another ledger than the one that was named, and a traceback for it."""
    document = json.loads(kvcomm("claims", "results", "--json").stdout)
    [first, *_] = document["claims"]
    assert len(document["ledger_sha256"]) == 64
    assert (first["verdict"], first["trial_ids"]) == ("undecided", [])
    assert "0 reproduced, 0 contradicted" in kvcomm("claims", "results").stdout
    Path("own.yaml").write_text("- {id: mine}")
    for arguments, said in (
        (("results", "--ledger", "own.yaml"), "own.yaml: claim 'mine': says is missing"),
        (("results", "--ledger", "none.yaml"), "none.yaml cannot be read"),
        (("nowhere",), "nowhere"),
    ):
        done = kvcomm("claims", *arguments)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert said in done.stderr


def test_items_needed(finished):
    """Catches margins that are not asked for and yet shown, and impossible ones that are planned for."""
    assert "items_needed" not in json.loads(kvcomm("plan", "sweep.yaml", "--json").stdout)
    document = json.loads(kvcomm("plan", "sweep.yaml", "--margin", "2", "--json").stdout)
    assert [row["cell"] for row in document["items_needed"]] == ["recall, 2 agents, kvcomm", "recall, 3 agents, kvcomm"]
    assert "exclude a loss of 2 points" in kvcomm("plan", "sweep.yaml", "--margin", "2").stdout
    for arguments in (("--margin", "0"), ("--margin", "2", "--power", "1"), ("--kl-margin", "nan")):
        done = kvcomm("plan", "sweep.yaml", *arguments)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "allowed: --margin with one SWEEP" in kvcomm("plan", "--all", "--margin", "2").stderr


def test_compare(finished):
    """Catches a check whose exit code says the opposite, and JSON with something else around it."""
    assert kvcomm("compare", "results", "after").exit_code == 0
    assert kvcomm("compare", "results", "after", "--fail-on", "ttft_ratio > 1.6").exit_code == 0
    done = kvcomm("compare", "results", "after", "--fail-on", "ttft_ratio > 1.4")
    assert done.exit_code == 1
    assert "check fires: recall, 2 agents, dense" in done.stdout
    done = kvcomm("compare", "results", "after", "--fail-on", "kl_ratio > 1", "--json")
    (cell,) = json.loads(done.stdout)["cells"]
    assert (done.exit_code, cell["fires"], cell["ttft_ratio"]["value"]) == (0, None, pytest.approx(1.5))


@pytest.mark.parametrize("check", ["", "ttft_ratio >", "speed > 1", "open('x')"])
def test_compare_with_a_malformed_check(finished, check):
    """Catches a misspelt check that passes."""
    done = kvcomm("compare", "results", "after", "--fail-on", check)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("kvcomm: --fail-on is ")


def test_pack(finished):
    """Catches a copy that readers see otherwise, and a traceback over a folder that exists."""
    done = kvcomm("pack", "results", "copy", "--without-texts")
    assert done.exit_code == 0
    assert re.fullmatch(r"copy/\w+: \d+ trials, \d+\.\d MB\n", done.stdout)
    shown = [kvcomm("show", folder).stdout for folder in ("results", "copy")]
    assert shown[0] == shown[1] != ""
    again = kvcomm("pack", "results", "copy")
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr == "kvcomm: copy exists; allowed: a folder that does not exist yet\n"
