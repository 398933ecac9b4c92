"""The floors of the house and their rooms: imports go down only, in no circle, and the light floors load nothing heavy.

A process imports the modules of a house one after another, those that may load least first, and its modules are looked
at after each. Catches an import at the top of a file that makes ``kvcomm show`` take seconds, or the engine need Ray.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("kvcomm_core", "harness", "analysis", "sweeps")
"""From the ground up."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for floor in FLOORS
    for path in (ROOT / floor).rglob("*.py")
}


def room_of(module: str) -> str:
    """The package below the floor that a module lies in; a module that lies on the floor itself is its own room."""
    folder = MODULES[module].relative_to(ROOT).parent.parts
    return ".".join(folder[:2]) if len(folder) > 1 else module


def imports_of(module: str) -> Iterator[str]:
    """Our modules that a module imports, anywhere in its code; what only type checkers see does not count."""
    nodes: list[ast.AST] = [ast.parse(MODULES[module].read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            names = [
                f"{node.module}.{name}" if f"{node.module}.{name}" in MODULES else str(node.module) for name in names
            ]
        yield from (name for name in names if name in MODULES)


def test_imports_go_down_only() -> None:
    """Catches an import of a higher floor, also one inside a function."""
    for module in MODULES:
        for imported in imports_of(module):
            floor, other = (FLOORS.index(name.split(".")[0]) for name in (module, imported))
            assert other <= floor, f"{module} imports {imported}"


def test_no_circle_between_rooms() -> None:
    """Catches two packages that need each other, so that neither can be read, or moved, alone."""
    needs: dict[str, set[str]] = {}
    for module in MODULES:
        room = room_of(module)
        needs.setdefault(room, set()).update({room_of(imported) for imported in imports_of(module)} - {room})
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as circle:
        pytest.fail(f"rooms in a circle: {' -> '.join(circle.args[1])}")


def test_rooms_are_not_crowded() -> None:
    """Catches a folder that grows flat again: 20 modules side by side, and no more."""
    folders = [path.parent for path in MODULES.values() if path.name != "__init__.py"]
    assert {folder.relative_to(ROOT): folders.count(folder) for folder in folders if folders.count(folder) > 20} == {}


HEAVY = {"torch", "transformers", "ray", "mlflow"}

HOUSES = {
    "the engine and trials": [
        ("kvcomm_core.engine", {"ray", "mlflow", "pandas", "pyarrow", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.models.loading", {"ray", "mlflow", "pandas", "pyarrow", "harness", "sweeps", "analysis"}),
        ("harness.trials.runner", {"ray", "mlflow", "sweeps", "analysis"}),
    ],
    "what plans, records and reads": [
        ("kvcomm_core.config", {*HEAVY, "numpy", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.methods.baseline_config", {*HEAVY, "numpy", "harness", "sweeps", "analysis"}),
        ("kvcomm_core.models.model_source", {*HEAVY, "harness", "sweeps", "analysis"}),
        ("harness.tools.python_tool", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.tools.humaneval.execution", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.tools.wiki", {*HEAVY, "numpy", "pandas", "pyarrow", "sweeps", "analysis"}),
        ("harness.results.checkpoint", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.trials.shards", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.results.parquet_files", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.workloads", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.traces.reading", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.traces.earlier_text", {*HEAVY, "pandas", "sweeps", "analysis"}),
        ("harness.replica", {*HEAVY, "sweeps", "analysis"}),
        ("harness.agents", {*HEAVY, "sweeps", "analysis"}),
        ("analysis.results", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.tables.sweep_table", {*HEAVY, "sweeps"}),
        ("analysis.tables.show", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.arena.view", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.paper.show_paper", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.compare.compare_view", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.potential.counting", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.potential.report", {*HEAVY, "sweeps", "matplotlib"}),
        ("analysis.figures.saving", {*HEAVY, "sweeps"}),
        ("analysis.potential.picture", {*HEAVY, "sweeps"}),
        ("analysis.report.page", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.explore.frames", {*HEAVY, "huggingface_hub", "sweeps"}),
        ("analysis.notebook", {*HEAVY, "huggingface_hub", "sweeps"}),
    ],
    "the command": [
        ("sweeps.tracking.background_writer", HEAVY),
        ("sweeps.cli", {*HEAVY, "pandas", "scipy", "matplotlib"}),
        ("sweeps.run.in_process", {*HEAVY}),
    ],
}
"""What each module must not load. What one has loaded counts for those after it, too: none can hide behind another."""

LOOK = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module, *{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.slow
@pytest.mark.parametrize("house", HOUSES)
def test_floors(house: str) -> None:
    modules = [module for module, _ in HOUSES[house]]
    done = subprocess.run([sys.executable, "-c", LOOK, *modules], capture_output=True, text=True, check=True)
    loaded = {module: set(names) for module, *names in map(str.split, done.stdout.splitlines())}
    assert list(loaded) == modules
    for module, forbidden in HOUSES[house]:
        assert not forbidden & loaded[module], module
