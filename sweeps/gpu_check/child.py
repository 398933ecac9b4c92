"""One step of the check, in a process of its own: ``python -m sweeps.gpu_check.child STEP DEVICE MODEL FILE``."""

import sys
from pathlib import Path

import torch

from harness.environment import package_version
from kvcomm_core.models.loading import load_model
from sweeps.gpu_check.decoding import decode
from sweeps.gpu_check.figures import FigureFile
from sweeps.gpu_check.offload import offload
from sweeps.gpu_check.roofs import ModelRoofs, Roofs, measure_roofs
from sweeps.gpu_check.tables import table_2, table_3

SHRINK_ON_CPU = 32
"""Divisor of all lengths on a CPU, where the model is a tiny one."""


def main(step: str, device_name: str, model_name: str, path: str) -> None:
    """Run one step and write what it finds to a file."""
    file = FigureFile(Path(path))
    if step == "tests":
        from sweeps.gpu_check.gpu_tests import run_gpu_tests  # a machine may have no pytest

        return run_gpu_tests(file)
    on_gpu = device_name == "cuda"
    device, shrink = torch.device("cuda:0" if on_gpu else "cpu"), 1 if on_gpu else SHRINK_ON_CPU
    model = load_model(model_name, device="cuda" if on_gpu else "cpu")
    roofs = measure_roofs(device, model.dtype)
    file.machine(_machine(device, roofs) | {"decoding": model.decoding, "dtype": str(model.dtype)})
    of_model = ModelRoofs(model, roofs)
    match step:
        case "table_2":
            table_2(model, of_model, file, shrink)
        case "table_3":
            table_3(model, of_model, file, shrink)
        case "decode":
            decode(model, of_model, file, shrink)
        case "offload":
            offload(model, roofs, file, shrink)
        case _:
            raise ValueError(f"step is {step!r}")
    return None


def _machine(device: torch.device, roofs: Roofs) -> dict[str, object]:
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "cuda": torch.version.cuda,
        **{name: package_version(name) for name in ("torch", "transformers", "triton")},
        "bytes_per_s": roofs.bytes_per_s,
        "flops_per_s": roofs.flops_per_s,
        "host_bytes_per_s": roofs.host_bytes_per_s,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
