"""``make gpu-check`` on a CPU: what it runs, how it ends, and what it says where there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import torch_devices
from sweeps.gpu_check import __main__ as command
from sweeps.gpu_check import steps
from sweeps.gpu_check.steps import ALL_LIMIT_S, STEPS, Step, run_step, run_steps

ROOT = Path(__file__).parents[3]
NOT_ON_A_BARE_MACHINE = ("ray", "mlflow", "pydantic", "gguf", "math_verify", "moto", "deltalake", "duckdb")


def scripted(monkeypatch: pytest.MonkeyPatch, scripts: dict[str, str]) -> None:
    """Let each step run a script of its own, whose ``sys.argv[1]`` is the step's file."""
    monkeypatch.setattr(
        steps, "command_of", lambda step, device, model, file: [sys.executable, "-c", scripts[step.name], str(file)]
    )


FINDS_ONE = """
import sys
open(sys.argv[1], "a").write('{"kind": "note", "text": "found"}\\n')
"""


def test_all_steps_fit_into_nine_minutes() -> None:
    """Catches a step whose limit makes the command longer than a lease of a GPU."""
    assert sum(step.limit_s for step in STEPS) <= ALL_LIMIT_S <= 540 - 10


def test_a_failing_and_a_hanging_step_stop_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a fault that ends the command, a limit that is not kept, a process that outlives its step, and figures
    that are lost with it."""
    hangs = FINDS_ONE + "import subprocess, time\nopen(sys.argv[1], 'a').write('{\"kind\": \"no')\n"
    hangs += "child = subprocess.Popen(['sleep', '300'])\nopen(sys.argv[1] + '.pid', 'w').write(str(child.pid))\n"
    hangs += "time.sleep(300)"
    scripted(
        monkeypatch,
        {"fails": FINDS_ONE + "raise SystemExit('no such kernel')", "hangs": hangs, "last": FINDS_ONE},
    )
    given = [Step("fails", "", 60.0), Step("hangs", "", 3.0), Step("last", "", 60.0)]
    fails, hung, last = run_steps("cpu", "", tmp_path, given)
    assert (fails.status, hung.status, last.status) == ("failed", "timeout", "ok")
    assert fails.reason == "exit code 1\nno such kernel"
    assert hung.reason.startswith("ended at its limit of 3 s")
    assert [result.found for result in (fails, hung, last)] == [[{"kind": "note", "text": "found"}]] * 3
    pid = Path(f"{tmp_path / 'hangs.jsonl'}.pid").read_text()
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or ") Z " in state.read_text(), "what the step had started is gone"


def test_time_that_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches steps that run on beyond the limit of all, and one that is left out without a word."""
    monkeypatch.setattr(steps, "ALL_LIMIT_S", 0.5)
    [result] = run_steps("cpu", "", tmp_path, [Step("late", "", 60.0)])
    assert (result.status, result.reason) == ("not run", "no time was left of 0 s")


def test_without_a_gpu_there_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Catches a check that runs on a CPU unasked, and one that ends well without having checked anything."""
    monkeypatch.setattr(torch_devices, "LOOK", 'print(\'{"threads": 2, "gpus": []}\')')
    assert command.main([]) == 2
    said = capfd.readouterr().err
    assert said == (
        "gpu-check: torch sees no CUDA device on this machine; --on-cpu runs it on the CPU, with a tiny model\n"
    )
    monkeypatch.setattr(torch_devices, "LOOK", "raise ImportError('libcudart.so.13: no such file')")
    assert command.main([]) == 2
    said = capfd.readouterr().err
    assert said.startswith("gpu-check: torch cannot be loaded: ImportError: libcudart.so.13: no such file; --on-cpu")


def test_a_folder_that_cannot_be_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Catches nine minutes on a GPU whose figures then have no place to go."""
    (tmp_path / "file").touch()
    assert command.main(["--on-cpu", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "allowed: a folder that can be made" in capfd.readouterr().err


def test_results_are_there_after_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a report that is lost if the command is ended before its last step, and an exit code that hides a
    failure."""
    scripted(monkeypatch, {step.name: FINDS_ONE for step in STEPS} | {"decode": "raise SystemExit(3)"})
    lengths = []
    real = command._write
    monkeypatch.setattr(command, "_write", lambda *a, **k: (real(*a, **k), lengths.append(len(a[1]))))
    assert command.main(["--on-cpu", "--out", str(tmp_path)]) == 1
    assert lengths == [1, 2, 3, 4, 5]
    report = json.loads((tmp_path / "gpu-check.json").read_text())
    assert {step["name"]: step["status"] for step in report["steps"]} == {
        step.name: "failed" if step.name == "decode" else "ok" for step in STEPS
    }
    page = (tmp_path / "gpu-check.md").read_text()
    assert "nothing about a GPU" in page
    assert all(f"## {step.title}" in page for step in STEPS)


@pytest.mark.slow
def test_on_a_bare_machine(tmp_path: Path) -> None:
    """Catches an import, anywhere in the check, of a package that a GPU machine does not have, and a step that the
    command starts in another way than this test."""
    names = "".join(f"sys.modules[{name!r}] = None\n" for name in NOT_ON_A_BARE_MACHINE)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{names}")
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.gpu_check", "--on-cpu", "--steps", "tests", "decode", "--out", tmp_path / "out"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads((tmp_path / "out" / "gpu-check.json").read_text())
    tests, decode = report["steps"]
    assert (done.returncode, decode["status"]) == (0, "ok"), done.stderr + str(report)
    assert tests["status"] in ("skipped", "ok")
    assert any("test_packed.py" in line["name"] for line in tests["found"])
    figures = [line for line in decode["found"] if line["kind"] == "figure"]
    assert {figure["name"].split(", ")[1] for figure in figures} == {"batch 1", "batch 8", "batch 32"}


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback where one line would do."""
    monkeypatch.setattr(command, "NEEDED", ("torch", "no_such_package"))
    assert command.main([]) == 2
    assert "gpu-check: needs no_such_package, not installed for" in capfd.readouterr().err


def test_a_child_that_is_asked_for_nonsense(tmp_path: Path) -> None:
    """Catches a step that is not known to the child and passes for done."""
    result = run_step(Step("nonsense", "", 60.0), "cpu", "random:nowhere", tmp_path, 60.0)
    assert result.status == "failed"
    assert "random:nowhere" in result.reason
