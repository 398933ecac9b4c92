"""The steps of the check, each run in a process of its own, within a limit of its own and one for all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeps.gpu_check.figures import read_figures

ALL_LIMIT_S = 530.0
"""Seconds for all steps; with the look at the device and the page, the command ends within nine minutes."""
_ROOT = Path(__file__).parents[2]
_KEPT_LINES = 12

Status = Literal["ok", "failed", "timeout", "not run", "skipped"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step."""

    name: str
    title: str
    limit_s: float


STEPS = (
    Step("tests", "Tests marked gpu", 90.0),
    Step("table_2", "Table 2: time to the first token of five agents", 130.0),
    Step("decode", "Decoding, in batches", 90.0),
    Step("offload", "Anchors on the device and in host memory", 70.0),
    Step("table_3", "Table 3: by length of prefix and answers", 150.0),
)
"""In the order of what they tell, so that a short time cuts off the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How a step ended, and what it found."""

    name: str
    title: str
    limit_s: float
    status: Status
    seconds: float
    reason: str
    """Why it is not ``ok``; the last lines that it wrote."""
    found: list[dict[str, Any]]
    """The lines of its file: ``machine``, ``note``, ``figure`` and ``test``."""


def command_of(step: Step, device: str, model: str, file: Path) -> list[str]:
    """Return the command of a step that writes to ``file``."""
    return [sys.executable, "-m", "sweeps.gpu_check.child", step.name, device, model, str(file)]


def run_step(step: Step, device: str, model: str, folder: Path, limit_s: float) -> StepResult:
    """Run a step for at most ``limit_s`` seconds, and end all that it started."""
    file, errors = folder / f"{step.name}.jsonl", folder / f"{step.name}.stderr"
    start, timed_out = time.monotonic(), False
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with errors.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command_of(step, device, model, file),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end(process)
    found = read_figures(file)
    status: Status = "timeout" if timed_out else "failed" if process.returncode else "ok"
    tests = [line["outcome"] for line in found if line["kind"] == "test"]
    if status == "ok" and set(tests) == {"skipped"}:
        status = "skipped"
    reason = ""
    if status == "timeout":
        reason = f"ended at its limit of {limit_s:.0f} s; the figures are those it had by then"
    elif status == "failed":
        lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = "\n".join([f"exit code {process.returncode}", *lines[-_KEPT_LINES:]])
    elif status == "skipped":
        reason = (
            f"all {len(tests)} tests were skipped: {next(line['reason'] for line in found if line['kind'] == 'test')}"
        )
    return StepResult(
        name=step.name,
        title=step.title,
        limit_s=limit_s,
        status=status,
        seconds=time.monotonic() - start,
        reason=reason,
        found=found,
    )


def run_steps(device: str, model: str, folder: Path, steps: Sequence[Step] = STEPS) -> Iterator[StepResult]:
    """Run all steps, whatever becomes of each, and yield them as they end. One that no time is left for is not run."""
    start = time.monotonic()
    for step in steps:
        limit_s = min(step.limit_s, ALL_LIMIT_S - (time.monotonic() - start))
        if limit_s < 1.0:
            reason = f"no time was left of {ALL_LIMIT_S:.0f} s"
            yield StepResult(
                name=step.name,
                title=step.title,
                limit_s=step.limit_s,
                status="not run",
                seconds=0.0,
                reason=reason,
                found=[],
            )
            continue
        sys.stderr.write(f"gpu-check: {step.title}, at most {limit_s:.0f} s\n")
        result = run_step(step, device, model, folder, limit_s)
        sys.stderr.write(f"gpu-check: {result.status} after {result.seconds:.0f} s\n")
        yield result


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):  # nothing of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
