"""``kvcomm doctor`` on machines that lack something. No test imports torch: a script takes its place."""

import json
import shutil
import threading
from types import SimpleNamespace

import pytest

from harness.tools.sandbox.jail.layers import UnsafeSandboxError
from sweeps import doctor, torch_devices

NO_GPU = 'print(\'{"threads": 2, "gpus": []}\')'


@pytest.fixture(autouse=True)
def _quickly(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch_devices, "LOOK", NO_GPU)
    monkeypatch.setattr(doctor, "built_in", dict)
    monkeypatch.setattr(doctor, "require_safe", lambda allow_unsafe: None)
    monkeypatch.setattr(doctor, "active_layers", lambda: ("namespaces", "seccomp"))
    monkeypatch.setattr(doctor, "package_version", lambda name: "1.0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def findings():
    return {(one.kind, one.name): one for one in doctor.diagnose().findings}


def test_what_is_looked_at():
    """Catches a check that is no longer made, and the number of threads of a process without torch."""
    found = findings()
    assert {kind for kind, _ in found} == {"library", "device", "disk", "sandbox", "model"}
    assert found["library", "torch"].detail == "1.0"
    assert found["sandbox", "python"].detail == "namespaces, seccomp"
    assert "GiB free" in found["device", "cpu"].detail
    assert doctor.diagnose().environment.threads == 2


def test_gpu_memory(monkeypatch):
    """Catches free and total memory mixed up, and bytes shown as something else."""
    seen = {"threads": 1, "gpus": [["NVIDIA H200", 100 << 30, 140 << 30]]}
    monkeypatch.setattr(torch_devices, "LOOK", f"print({json.dumps(seen)!r})")
    assert findings()["device", "cuda:0"].detail == "NVIDIA H200, 100.0 of 140.0 GiB free"
    assert doctor.diagnose().environment.gpus == ("NVIDIA H200",)


def test_a_torch_that_cannot_be_loaded(monkeypatch):
    """Catches a doctor that dies of the very fault that it should find, or hides the reason."""
    monkeypatch.setattr(torch_devices, "LOOK", "raise ImportError('libcudart.so.13: no such file')")
    torch = findings()["library", "torch"]
    assert not torch.found
    assert torch.detail == "1.0 is installed but cannot be loaded: ImportError: libcudart.so.13: no such file"
    monkeypatch.setattr(torch_devices, "LOOK", "import os; os.abort()")
    assert findings()["library", "torch"].detail.endswith("exit code -6")


def test_nothing_is_waited_for(monkeypatch):
    """Catches a doctor that takes as long as the slowest answer of a network."""
    hangs = threading.Event()
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.05)

    def check():
        hangs.wait()
        raise AssertionError

    good = doctor.Finding("data", "good", True, "here")
    late, done = doctor._side_by_side([("data", "slow", check), ("data", "good", lambda: good)])
    assert (late.name, late.found) == ("slow", False)
    assert late.detail.startswith("no answer within 0.05 s")
    assert done is good


def test_little_room_and_no_sandbox(monkeypatch):
    """Catches a machine called sound on which runs would end for lack of room, or be refused."""

    def refused(allow_unsafe):
        raise UnsafeSandboxError("this machine cannot confine code")

    monkeypatch.setattr(doctor, "require_safe", refused)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1 << 30, total=8 << 30))
    found = findings()
    assert not found["sandbox", "python"].found
    assert not found["disk", "results"].found
    assert found["disk", "results"].detail.endswith(", 1.0 of 8.0 GiB free; 2 are safe")


def test_which_cluster_would_be_used(monkeypatch):
    """Catches a cluster of its own announced where RAY_ADDRESS sends the run elsewhere."""
    assert "a cluster of its own" in findings()["library", "ray"].detail
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert findings()["library", "ray"].detail == "1.0; RAY_ADDRESS names the cluster 10.0.0.1:6379"
    monkeypatch.setattr(doctor, "package_version", lambda name: None)
    assert findings()["library", "ray"].detail == "not installed; pip install ray, or run with --in-process"
