"""The command ``python -m sweeps.gpu_check``, which ``make gpu-check`` runs. It imports no torch."""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from sweeps.gpu_check.page import render_page
from sweeps.gpu_check.steps import STEPS, StepResult, run_steps
from sweeps.torch_devices import looking_at_devices

PAGE = "gpu-check.md"
MODEL = "random:llama-3.1-8b"
NEEDED = ("torch", "transformers", "psutil", "pyarrow", "pytest", "yaml")
TINY = {
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
"""The model of ``--on-cpu``."""


def main(arguments: list[str]) -> int:
    """Run the check. Return 0 if all steps ended well, 1 if some did not, 2 if it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.gpu_check", description="Run all that needs a GPU.")
    parser.add_argument("--out", type=Path, default=Path("results/gpu-check"), help="Folder of the JSON and the page.")
    parser.add_argument("--on-cpu", action="store_true", help="Run on the CPU, with a tiny model, as the tests do.")
    parser.add_argument("--steps", nargs="+", choices=[step.name for step in STEPS], help="Only these steps.")
    given = parser.parse_args(arguments)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.stderr.write(f"gpu-check: needs {' and '.join(missing)}, not installed for {sys.executable}\n")
        return 2
    if not given.on_cpu and (reason := _no_gpu()):
        sys.stderr.write(f"gpu-check: {reason}; --on-cpu runs it on the CPU, with a tiny model\n")
        return 2
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"gpu-check: --out is {given.out}; {error.strerror}; allowed: a folder that can be made\n")
        return 2
    steps = tuple(step for step in STEPS if given.steps is None or step.name in given.steps)
    start, results = time.monotonic(), list[StepResult]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _tiny_model(folder) if given.on_cpu else MODEL
        for result in run_steps("cpu" if given.on_cpu else "cuda", model, folder, steps):
            results.append(result)
            _write(given.out, results, time.monotonic() - start, on_cpu=given.on_cpu)  # a later step may hang it all
    sys.stdout.write(f"{given.out / PAGE}\n")
    return 1 if any(result.status in ("failed", "timeout", "not run") for result in results) else 0


def _write(out: Path, results: Sequence[StepResult], seconds: float, *, on_cpu: bool) -> None:
    """Write the JSON and the page of the steps that are done."""
    from harness.environment import capture_environment  # needs psutil, which a machine may not have

    report = {
        "model": "a tiny random model" if on_cpu else MODEL,
        "device": "cpu" if on_cpu else "cuda",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "environment": asdict(capture_environment()),
        "steps": [asdict(result) for result in results],
    }
    (out / "gpu-check.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / PAGE).write_text(render_page(report), encoding="utf-8")


def _no_gpu() -> str:
    """Return why there is no GPU to check; empty if there is one."""
    with looking_at_devices() as seen:
        found = seen()
    if found.failure:
        return f"torch cannot be loaded: {found.failure}"
    return "" if found.gpus else "torch sees no CUDA device on this machine"


def _tiny_model(folder: Path) -> str:
    shape = folder / "tiny"
    shape.mkdir()
    (shape / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    return f"random:{shape}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
