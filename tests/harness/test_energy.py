"""The energy meter on a made-up NVML, since the machine may have neither a GPU nor the module."""

import types

import pytest
import torch

from harness.energy import EnergyMeter

CUDA = [torch.device("cuda", index) for index in (0, 1)]


class NVMLError(Exception):
    """NVML's own error."""


class MadeUpNVML(types.ModuleType):
    """Two GPUs, numbered the other way round than by torch, and a counter in millijoules for each."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.millijoules = {"GPU-b": 5_000, "GPU-a": 1_000}
        self.broken = False
        self.started = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.started += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.millijoules:
            raise NVMLError("not found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        if self.broken:
            raise NVMLError("not supported")
        return self.millijoules[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> MadeUpNVML:
    made_up = MadeUpNVML()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", made_up)
    names = {0: "a", 1: "b"}
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: types.SimpleNamespace(uuid=names.get(device.index, "a slice")),
    )
    return made_up


def test_only_the_marked_work_counts(nvml: MadeUpNVML) -> None:
    """Would catch millijoules taken for joules, what was used between the blocks, a block counted twice, and the GPU
    of another process."""
    meter = EnergyMeter([CUDA[0], CUDA[0]])
    assert meter.joules() == 1.0
    for used in (300, 200):
        with meter.counting():
            nvml.millijoules["GPU-a"] += used
            nvml.millijoules["GPU-b"] += 70_000
        nvml.millijoules["GPU-a"] += 9_000  # checks of fidelity, tools, grading
    assert meter.taken() == pytest.approx(0.5)
    assert meter.taken() == 0.0
    with meter.counting():
        nvml.millijoules["GPU-a"] += 100
    assert meter.taken() == pytest.approx(0.1)


def test_devices_add_up(nvml: MadeUpNVML) -> None:
    """Would catch a model on two GPUs of which only one counts."""
    meter = EnergyMeter([CUDA[1], CUDA[0], CUDA[1]])
    with meter.counting():
        nvml.millijoules["GPU-a"] += 1_000
        nvml.millijoules["GPU-b"] += 2_000
    assert meter.taken() == pytest.approx(3.0)


def test_a_counter_that_fails_or_begins_anew_makes_the_energy_unknown(nvml: MadeUpNVML) -> None:
    """Would catch 0, a negative energy, a sum of which a part is missing, and a meter that never recovers."""
    meter = EnergyMeter(CUDA[:1])
    with meter.counting():
        nvml.millijoules["GPU-a"] += 500
    with meter.counting():
        nvml.broken = True
    nvml.broken = False
    assert meter.taken() is None
    with meter.counting():
        nvml.millijoules["GPU-a"] = 0
    assert meter.taken() is None
    with meter.counting():
        nvml.millijoules["GPU-a"] += 500
    assert meter.taken() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "devices",
    [[], [torch.device("cpu")], [CUDA[0], torch.device("cpu")], [torch.device("cuda", 7)]],
    ids=["none", "cpu", "partly on the cpu", "a MIG slice"],
)
def test_energy_is_unknown_where_a_device_has_no_counter(nvml: MadeUpNVML, devices: list[torch.device]) -> None:
    """Would catch 0 for 'unknown', and the GPUs' share of a model that is partly on the CPU."""
    meter = EnergyMeter(devices)
    with meter.counting():
        nvml.millijoules["GPU-a"] += 500
    assert (meter.joules(), meter.taken()) == (None, None)


def test_the_module_and_the_driver_may_be_missing(nvml: MadeUpNVML, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a trial that fails for want of a package that nothing else needs."""

    def no_driver() -> None:
        raise NVMLError("driver not loaded")

    monkeypatch.setattr(nvml, "nvmlInit", no_driver)
    assert EnergyMeter(CUDA).taken() is None
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert EnergyMeter(CUDA).taken() is None
