"""The plug-ins that a job takes along: whole packages, what lies beside them, and nothing else."""

import sys

import pytest

from sweeps.jobs.plug_in_files import plug_in_files
from sweeps.language.sweep_spec import load_sweep

METHOD = """
from dataclasses import dataclass
from kvcomm_core.config import MethodConfig
{imports}


@dataclass(frozen=True, slots=True, kw_only=True)
class {name}(MethodConfig):
    pass
"""
WORKLOAD = """
from dataclasses import dataclass
from typing import ClassVar
from harness.workloads.recall import RecallSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(RecallSpec):
    name: str = "own_workload_of_a_job:Own"
    shown_by: ClassVar[str] = "shows_own_of_a_job:show"

    @property
    def team(self):
        return "recall"
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A folder with plug-ins, of which those are imported that a test names. None of them stays imported."""
    files = {
        "method_of_a_job.py": METHOD.format(name="Alone", imports="import helps_a_job"),
        "helps_a_job.py": "",
        "helps_nobody.py": "",
        "package_of_a_job/__init__.py": "",
        "package_of_a_job/inner/methods.py": METHOD.format(name="Packed", imports=""),
        "own_workload_of_a_job.py": WORKLOAD,
        "shows_own_of_a_job.py": "def show(results):\n    return []\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def packed(folder, text):
    (folder / "sweep.yaml").write_text(f"name: x\n{text}\n")
    found = plug_in_files(load_sweep(folder / "sweep.yaml").trials)
    assert all(path.parent == folder for path in found)
    return [path.name for path in found]


def test_a_module_with_what_it_imports_from_beside_it(modules):
    """Catches a plug-in that fails on the cluster for want of its helper, and a whole folder that is sent."""
    assert packed(modules, "grid: {method: [dense, 'method_of_a_job:Alone']}") == [
        "helps_a_job.py",
        "method_of_a_job.py",
    ]


def test_a_package_is_sent_whole(modules):
    """Catches a module that is sent without the package that it belongs to."""
    assert packed(modules, "method: 'package_of_a_job.inner.methods:Packed'") == ["package_of_a_job"]


def test_a_workload_with_the_code_that_runs_and_shows_it(modules):
    """Catches a workload whose table cannot be shown at the end of the job: nothing has imported that module yet."""
    assert packed(modules, "workload: 'own_workload_of_a_job:Own'") == [
        "own_workload_of_a_job.py",
        "shows_own_of_a_job.py",
    ]


def test_nothing_of_ours_and_nothing_installed(modules):
    """Catches our packages or site-packages among the plug-ins of an ordinary sweep."""
    assert packed(modules, "model: 'random:tiny'\ngrid: {method: [dense, kvcomm]}") == []
