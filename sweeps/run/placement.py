"""What each replica takes from its node, and whether the cluster can give it. Knows nothing of Ray."""

from dataclasses import dataclass

from harness.spec import TrialSpec
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import Plan

Node = dict[str, float]
"""Resources of a node by Ray's names for them: ``CPU``, ``GPU``."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Trials that are run side by side, and the replicas they are run on."""

    specs: tuple[TrialSpec, ...]
    replicas: int
    """The most that there may be; fewer work while the cluster has no room for more."""
    cpus: int
    """That each replica takes from its node."""
    gpus: float
    threads: int
    """Of one operation."""
    exclusive: bool
    """One after another, on a replica that takes every CPU of its node."""


def make_stages(plan: Plan, nodes: list[Node], *, grows: bool = False) -> list[Stage]:
    """The pending trials: first those that share a machine, then those that do not; at least one stage.

    ``grows``: nodes may join. Raises ``SweepError`` if the cluster can never hold the replicas.
    """
    sweep = plan.sweep
    gpus = sweep.gpus_per_replica
    on_gpu = any(node.get("GPU", 0) for node in nodes) if gpus is None else gpus > 0
    alone = tuple(spec for spec in plan.pending if sweep.is_exclusive(spec, on_gpu=on_gpu))
    chosen = set(alone)
    shared = tuple(spec for spec in plan.pending if spec not in chosen)
    stages: list[Stage] = []
    if shared or not alone:
        cpus, share = place_replicas(sweep, nodes, grows=grows)
        replicas = min(sweep.replicas, len(shared))
        stages.append(Stage(shared, replicas, cpus, share, threads=cpus, exclusive=False))
    if alone:
        stages.append(_exclusive_stage(sweep, alone, nodes))
    return stages


def _exclusive_stage(sweep: SweepSpec, specs: tuple[TrialSpec, ...], nodes: list[Node]) -> Stage:
    wanted = sweep.gpus_per_replica
    largest = max(nodes, key=lambda node: (node.get("GPU", 0) >= (wanted or 0), node.get("CPU", 0)))
    cores, has = int(largest.get("CPU", 0)), largest.get("GPU", 0)
    threads = sweep.cpus_per_replica or cores
    if sweep.autoscaling and (threads > cores or (wanted or 0) > has):
        cores = threads  # of a node that is yet to come, of which no more is known
    elif threads > cores or (wanted or 0) > has:
        raise SweepError(
            f"cpus_per_replica is {threads} and gpus_per_replica {wanted or 0:g}, for trials that have a machine to "
            f"themselves; allowed: {cores} CPU and {has:g} GPU at most, as the largest node has"
        )
    gpus = min(1.0, has) if wanted is None else wanted
    return Stage(specs, 1, cores, gpus, threads=threads, exclusive=True)


def place_replicas(sweep: SweepSpec, nodes: list[Node], *, grows: bool = False) -> tuple[int, float]:
    """CPUs and GPUs of each replica.

    Raises ``SweepError`` if the nodes cannot hold all replicas at once; or, if the cluster ``grows``, not even one:
    nodes that join are expected to be like those that are there, unless the sweep says ``autoscaling``.
    """
    all_cpus, all_gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    gpus = sweep.gpus_per_replica
    if gpus is None:
        gpus = min(1.0, int(100 * all_gpus / sweep.replicas) / 100)
    cpus = sweep.cpus_per_replica or _fair_share(sweep.replicas, gpus, nodes)
    room, needed = _room(cpus, gpus, nodes), 1 if grows else sweep.replicas
    if room < needed and not sweep.autoscaling:
        raise SweepError(
            f"replicas is {sweep.replicas}, each with {cpus} CPU and {gpus:g} GPU; allowed: {room} at most, "
            f"as there are {all_cpus:g} CPU and {all_gpus:g} GPU on {len(nodes)} node(s)"
            f"{_largest(nodes) if room == 0 and len(nodes) > 1 else ''}"
        )
    return cpus, gpus


def _fair_share(replicas: int, gpus: float, nodes: list[Node]) -> int:
    """CPUs of each replica if all are in use, and all replicas fit; 1 where they do not."""
    most = int(sum(node.get("CPU", 0) for node in nodes)) // replicas
    return next((cpus for cpus in range(most, 1, -1) if _room(cpus, gpus, nodes) >= replicas), 1)


def _room(cpus: int, gpus: float, nodes: list[Node]) -> int:
    """Replicas that the nodes hold at once."""
    return sum(
        int(min(node.get("CPU", 0) // cpus, (node.get("GPU", 0) + 1e-6) // gpus if gpus else float("inf")))
        for node in nodes
    )


def _largest(nodes: list[Node]) -> str:
    cpus, gpus = (max(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    return f", at most {cpus:g} CPU and {gpus:g} GPU on one"
