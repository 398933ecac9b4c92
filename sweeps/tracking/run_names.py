"""Names of MLflow runs, which say what is special about each trial of a sweep: ``recall 3 agents kvcomm gamma=0.3``."""

from collections.abc import Mapping

from harness.cells import FlatSpec, name_cells


def name_runs(specs: Mapping[str, FlatSpec]) -> dict[str, str]:
    """Name the trials of a sweep, by id. A name holds the method and what differs among the trials, nothing else."""
    cells = name_cells(list(specs.values()))
    several_workloads = len({cell.workload for cell in cells}) > 1
    several_sizes = len({cell.agents for cell in cells}) > 1
    several_seeds = len({spec["seed"] for spec in specs.values()}) > 1
    names = {}
    for (trial_id, spec), cell in zip(specs.items(), cells, strict=True):
        parts = [
            cell.workload if several_workloads else "",
            f"{cell.agents} agent{'s' if cell.agents > 1 else ''}" if several_sizes else "",
            cell.method,
            cell.settings,
            f"seed={spec['seed']}" if several_seeds else "",
        ]
        names[trial_id] = " ".join(part for part in parts if part)
    return names
