"""The floors of the house: imports go down only, and the light floors load nothing heavy.

Each floor is imported in a process of its own, whose modules are looked at. Catches an import at the top of a file
that makes ``kvcomm show`` take seconds, or the engine need Ray.
"""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "ray", "mlflow"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("kvcomm_core.engine", {"ray", "mlflow", "pandas", "pyarrow", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.model", {"ray", "mlflow", "pandas", "pyarrow", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.config", {*HEAVY, "numpy", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.model_source", {*HEAVY, "harness", "sweeps", "analysis"}),
        ("harness.trial", {"ray", "mlflow", "sweeps", "analysis"}),
        ("harness.replica", {*HEAVY, "sweeps", "analysis"}),
        ("harness.tracking", {*HEAVY, "sweeps", "analysis"}),
        ("harness.checkpoint", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.shards", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.store", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.workloads", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.agents", {*HEAVY, "sweeps", "analysis"}),
        ("harness.tools.python_tool", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.tools.humaneval", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.tools.wiki", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("analysis.load", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.tables", {*HEAVY, "sweeps"}),
        ("analysis.show", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.paper_tables.show", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.figures.saving", {*HEAVY, "sweeps"}),
        ("analysis.report.page", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.notebook", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.compare_view", {*HEAVY, "sweeps", "matplotlib"}),
        ("sweeps.cli", {*HEAVY, "pandas", "scipy", "matplotlib"}),
        ("sweeps.in_process", {*HEAVY}),
    ],
)
def test_floor(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not forbidden & set(done.stdout.split())
