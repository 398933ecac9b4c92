"""The demo: its long prompt with a tiny model, what it prints, and the command around it."""

import dataclasses
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tiny_models import tiny_chat_model
from typer.testing import CliRunner

import sweeps
from kvcomm_core.engine import Engine
from sweeps import demo
from sweeps.cli import app, demo_command
from sweeps.demo import LongPromptSizes, print_long_prompt, run_long_prompt
from sweeps.language.sweep_spec import load_sweep
from sweeps.status.waiting import moving_bar

TINY = LongPromptSizes(reporters=2, report_tokens=700, answer_tokens=4)  # bytes: a story has some 500


@pytest.fixture(scope="module")
def measured():
    """A long prompt, the turns of the editor as the engine returned them, and the lines said meanwhile."""
    turns, out = [], io.StringIO()
    console = Console(file=out, width=1000)
    take_turns = Engine.take_turns

    def watched(self, requests, name, **options):
        taken = take_turns(self, requests, name, **options)
        turns.extend(turn for turn in taken if turn.name == "3")
        return taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "take_turns", watched)
        shown = run_long_prompt(
            tiny_chat_model(), TINY, lambda text, total=None: moving_bar(console, text, total=total)
        )
    return shown, turns, out.getvalue()


def printed(shown, **options):
    out = io.StringIO()
    print_long_prompt(shown, Console(file=out, width=80, **options))
    return out.getvalue()


def test_the_turns_that_are_compared(measured):
    """Catches arms that take different prompts, a turn of ``kvcomm`` that prefills after all, a reader who was there
    before, a prefix that is not the same for all, and a turn that is not the one that was measured."""
    shown, turns, _ = measured
    assert [turn.mode for turn in turns] == ["dense"] * 2 + ["dense", "reuse"]
    assert shown.dense is turns[2]
    assert shown.kvcomm is turns[3]
    assert shown.dense.prompt == shown.kvcomm.prompt
    prompts = [turn.prompt.token_ids for turn in turns[:3]]
    assert len(set(prompts)) == 3
    assert len({prompt[: shown.prefix_tokens] for prompt in prompts}) == 1
    assert len({prompt[-sum(map(len, shown.dense.prompt.holes[1:])) :] for prompt in prompts}) == 1
    assert shown.dense.plan.anchors is None
    assert shown.kvcomm.plan.anchors == 2 + 1 + 1  # two readers, and each of two reports once


def test_the_answer_stands_in_one_report():
    """Catches a question that two stories answer differently, or none does, and a report of another length."""
    model = tiny_chat_model()
    agents = demo._Agents(model, TINY)
    assert [len(report) for report in agents.reports] == [TINY.report_tokens] * TINY.reporters
    texts = [model.tokenizer.decode(report) for report in agents.reports]
    assert agents.name in agents.question
    assert "".join(texts).count(agents.name) == 1
    [sentence] = [sentence for sentence in texts[-1].split(".") if agents.name in sentence]
    assert agents.expected in sentence


def test_what_is_printed(measured):
    """Catches times, answers or counts that stand in the other arm's column."""
    shown, _, _ = measured
    shown = dataclasses.replace(
        shown,
        dense=dataclasses.replace(shown.dense, ttft_s=10.0),
        kvcomm=dataclasses.replace(shown.kvcomm, ttft_s=0.25),
        answers=("Nina has a turtle.", "A turtle"),
    )
    tokens = f"{len(shown.dense.prompt):,}"
    cells = [re.split(r" {2,}", line.strip()) for line in printed(shown).splitlines()]
    assert ["dense", "kvcomm"] in cells
    assert ["prompt tokens", tokens, tokens] in cells
    assert ["of them computed", tokens, str(1 + len(shown.dense.prompt.holes[0]))] in cells
    assert ["first token after", "10.00 s", "0.25 s"] in cells
    assert ["speedup", "40.0x"] in cells
    assert ["answer", "Nina has a turtle.", "A turtle"] in cells


@pytest.mark.parametrize("options", [{}, {"force_terminal": True}])
def test_at_80_columns(measured, options):
    """Catches a table that breaks, and markup in what a model wrote taken for ours."""
    shown = dataclasses.replace(measured[0], answers=("[red]" + "word " * 30, "[/] \x1b[2J x"))
    text = printed(shown, no_color=True, **options)
    table = text[text.index("dense") : text.index("Beforehand")]
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", table).splitlines())) <= 80
    assert "[red]word" in text
    assert "\x1b[2J" not in text


def test_no_control_codes_without_a_terminal(measured):
    """Catches a bar drawn into a log, and a wait that a log says nothing of."""
    shown, _, said = measured
    assert said.splitlines() == [
        "kvcomm: prefilling for 2 earlier readers ...",
        "both: the reporters' turns ...",
        "dense: the editor's turn ...",
        "kvcomm: the editor's turn ...",
    ]
    assert "\x1b" not in said + printed(shown)


def test_a_bar_in_a_terminal():
    """Catches a bar that never moves, that is wider than 80 columns, or is left half full."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    with moving_bar(console, "loading the model (first time: converting)"):
        pass
    assert "loading the model" in out.getvalue()
    assert "0:00:00" in out.getvalue()
    assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).splitlines())) <= 80


def test_a_turn_that_is_not_reused(monkeypatch):
    """Catches the time of a dense turn shown as that of reuse."""
    monkeypatch.setattr(demo, "_READERS", demo._READERS[:2])  # one of them is no evidence
    with pytest.raises(ValueError, match="the editor's turn by kvcomm is dense; wanted: reuse"):
        run_long_prompt(tiny_chat_model(), TINY, lambda text, total=None: moving_bar(Console(quiet=True), text))


@pytest.fixture
def tiny_demo(monkeypatch, tmp_path, made_up):
    """The command with a tiny model, a short prompt and made-up trials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("kvcomm_core.models.loading.load_model", lambda name: tiny_chat_model())
    monkeypatch.setattr(demo, "LongPromptSizes", lambda: TINY)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    return made_up[1]


def kvcomm_demo(*options):
    return CliRunner().invoke(app, ["demo", "--in-process", *options])


@pytest.mark.slow
def test_the_command_twice(tiny_demo, measured, monkeypatch, capsys):
    """Catches a part that is missing, results that are not where the last lines say, and trials that run twice."""
    monkeypatch.setattr(demo, "run_long_prompt", lambda *arguments: measured[0])
    done = kvcomm_demo("--results", "here")
    assert done.exit_code == 0, done.output
    assert len(tiny_demo) == len(load_sweep(demo_command.SWEEP).trials)
    for line in ("first token after", "workload agents method accuracy", "Parquet: here/smoke/", "kvcomm ui here\n"):
        assert line in done.stdout
    assert "\x1b" not in done.stdout
    [line] = [line for line in done.stdout.splitlines() if line.startswith("pandas: ")]
    exec(shlex.split(line)[-1])
    assert "ttft_s" in capsys.readouterr().out

    again = kvcomm_demo("--results", "here")
    assert again.exit_code == 0
    assert len(tiny_demo) == len(load_sweep(demo_command.SWEEP).trials)
    assert "nothing to run: 4 of 4 trials are done\n" in again.stdout
    assert again.stdout.count("first token after") == again.stdout.count("workload agents method accuracy") == 1


def test_interrupted(tiny_demo, monkeypatch):
    """Catches a traceback, another exit code, and a sweep that begins after Ctrl-C."""

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_long_prompt", interrupted)
    done = kvcomm_demo()
    assert (done.exit_code, done.stderr) == (130, "")
    assert done.stdout.splitlines()[-1].startswith("interrupted: ")
    assert tiny_demo == []


def test_a_results_folder_that_cannot_be_written(tiny_demo, monkeypatch):
    """Catches a minute of prefilling before the command says that it cannot go on."""
    monkeypatch.setattr(demo, "run_long_prompt", lambda *arguments: pytest.fail("the long prompt has run"))
    Path("file").write_text("")
    done = kvcomm_demo("--results", "file/results")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "kvcomm: results folder file/results/smoke cannot be written: Not a directory (file/results/smoke/turns)\n"
    )


def test_make_demo():
    """Catches a `make demo` that runs something else."""
    root = Path(sweeps.__file__).parents[1]
    done = subprocess.run(["make", "-n", "demo"], cwd=root, capture_output=True, text=True, check=True)
    assert ".venv/bin/kvcomm demo --results results" in done.stdout.splitlines()
