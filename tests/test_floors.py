"""The floors of the house: imports go down only, and the light floors load nothing heavy.

A process imports the modules of a house one after another, those that may load least first, and its modules are looked
at after each. Catches an import at the top of a file that makes ``kvcomm show`` take seconds, or the engine need Ray.
"""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "ray", "mlflow"}

HOUSES = {
    "the engine and trials": [
        ("kvcomm_core.engine", {"ray", "mlflow", "pandas", "pyarrow", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.model", {"ray", "mlflow", "pandas", "pyarrow", "harness", "sweeps", "analysis"}),
        ("harness.trial", {"ray", "mlflow", "sweeps", "analysis"}),
    ],
    "what plans, records and reads": [
        ("kvcomm_core.config", {*HEAVY, "numpy", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.model_source", {*HEAVY, "harness", "sweeps", "analysis"}),
        ("harness.tools.python_tool", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.tools.humaneval", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.tools.wiki", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.checkpoint", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.shards", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.store", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.workloads", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.replica", {*HEAVY, "sweeps", "analysis"}),
        ("harness.tracking", {*HEAVY, "sweeps", "analysis"}),
        ("harness.agents", {*HEAVY, "sweeps", "analysis"}),
        ("analysis.load", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.tables", {*HEAVY, "sweeps"}),
        ("analysis.show", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.paper_tables.show", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.compare_view", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.figures.saving", {*HEAVY, "sweeps"}),
        ("analysis.report.page", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.notebook", {*HEAVY, "huggingface_hub", "sweeps"}),
    ],
    "the command": [
        ("sweeps.cli", {*HEAVY, "pandas", "scipy", "matplotlib"}),
        ("sweeps.in_process", {*HEAVY}),
    ],
}
"""What each module must not load. What one has loaded counts for those after it, too: none can hide behind another."""

LOOK = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module, *{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize("house", HOUSES)
def test_floors(house: str) -> None:
    modules = [module for module, _ in HOUSES[house]]
    done = subprocess.run([sys.executable, "-c", LOOK, *modules], capture_output=True, text=True, check=True)
    loaded = {module: set(names) for module, *names in map(str.split, done.stdout.splitlines())}
    assert list(loaded) == modules
    for module, forbidden in HOUSES[house]:
        assert not forbidden & loaded[module], module
