"""Devices of trials: those that are mixed are pointed out."""

import dataclasses
import io

import pytest
from made_up import write_results
from rich.console import Console

from analysis.arms import Arms
from analysis.compare.compare_view import print_changes
from analysis.compare.comparison import compare_results
from analysis.results import Results
from analysis.tables.device_table import DeviceRow, device_rows, show_devices
from harness.spec import TrialSpec

H100, A100 = "cuda:0 NVIDIA H100 80GB HBM3", "cuda:0 NVIDIA A100-SXM4-40GB"


def on(result, device, cpu="EPYC"):
    """The same result, from another device."""
    return dataclasses.replace(
        result, trial=dataclasses.replace(result.trial, device=device, env_json=f'{{"cpu": "{cpu}"}}')
    )


def lines(results):
    return [str(table) for table in show_devices(results).tables]


def test_different_devices_are_pointed_out(write, make_result):
    """Catches averages over two kinds of GPU about which nothing is said, and equal GPUs that pass for different."""
    one, two, three, four = (make_result(TrialSpec(seed=seed)) for seed in range(4))
    second_gpu = H100.replace("cuda:0", "cuda:1")
    alike = Results(write(on(one, H100), on(two, second_gpu), on(three, f"{H100}, {second_gpu}")))
    assert device_rows(alike) == [DeviceRow("s", "NVIDIA H100 80GB HBM3", 3)]
    assert lines(alike) == []
    mixed = Results(write(on(four, A100)))
    assert lines(mixed) == [
        "s: times of different devices are mixed: NVIDIA H100 80GB HBM3 (3 trial(s)), "
        "NVIDIA A100-SXM4-40GB (1 trial(s)); `accelerator` prevents that"
    ]


def test_cpus_are_told_apart_by_their_names(write, make_result):
    """Catches times of two kinds of CPU, whose device is ``cpu`` alike; and a failed trial that counts."""
    one, two = (make_result(TrialSpec(seed=seed)) for seed in range(2))
    failed = make_result(TrialSpec(seed=2), status="killed")
    results = Results(write(on(one, "cpu"), on(two, "cpu", cpu="Xeon"), on(failed, None)))
    assert {(row.device, row.n_ok) for row in device_rows(results)} == {("EPYC", 1), ("Xeon", 1)}


def test_a_comparison_names_both_devices(make_result, tmp_path):
    """Catches a speedup from A to B that a faster GPU made."""
    result = make_result(TrialSpec())

    def printed(a, b):
        console = Console(file=io.StringIO(), width=200)
        print_changes(compare_results(a, b, None), console)
        return [line for line in console.file.getvalue().splitlines() if line.startswith("times of")]

    a, b = write_results(tmp_path / "a", on(result, H100)), write_results(tmp_path / "b", on(result, A100))
    assert printed(a, b) == ["times of different devices: A ran on NVIDIA H100 80GB HBM3, B on NVIDIA A100-SXM4-40GB"]
    assert printed(a, a) == []


@pytest.mark.parametrize(("theirs", "paired"), [(H100.replace("cuda:0", "cuda:1"), True), (A100, False)])
def test_turns_are_paired_on_one_kind_of_device_alone(write, make_result, theirs, paired):
    """Catches a speedup that a slower GPU of the dense arm made, and equal GPUs that are kept apart."""
    kvcomm = make_result(TrialSpec(method="kvcomm"))
    arms = Arms(Results(write(on(make_result(TrialSpec()), theirs), on(kvcomm, H100))))
    pairs = arms.of([kvcomm.trial.trial_id]).beside("dense")
    assert len(pairs) == (len(kvcomm.turns) if paired else 0)
