"""The resources each replica takes, and whether the cluster has them. This module does not use Ray."""

from dataclasses import dataclass

from harness.spec import TrialSpec
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import Plan

Node = dict[str, float]
"""Resources of a node, keyed by Ray's names: ``CPU``, ``GPU``."""

ACCELERATOR = "ray.io/accelerator-type"
"""Label of a node with the type of its GPUs. Ray sets it when it finds them; a cluster's file may set it, too."""


@dataclass(frozen=True, slots=True)
class LabelledNode:
    """A node of a cluster."""

    resources: Node
    accelerator: str | None = None
    """Type of its GPUs, from the label. None without one."""


def room(cpus: float, gpus: float, accelerator: str | None) -> str:
    """Return in words what a replica takes or a node has."""
    return f"{cpus:g} CPU and {gpus:g} GPU{f' of type {accelerator}' if accelerator else ''}"


def suitable(nodes: list[LabelledNode], sweep: SweepSpec) -> list[Node]:
    """Return the nodes that replicas of the sweep may use: those with its ``accelerator``, if it sets one.

    Raises ``SweepError`` if there are none and none can be expected.
    """
    wanted = sweep.accelerator
    found = [node.resources for node in nodes if wanted is None or node.accelerator == wanted]
    if not found and sweep.autoscaling:
        return [{}]  # nothing is known about a future node
    if not found and wanted is not None:
        types = sorted({node.accelerator for node in nodes if node.accelerator})
        allowed = f"{', '.join(types)}, as the nodes are labelled" if types else "none, as no node has such a label"
        raise SweepError(f"accelerator is {wanted!r}; allowed: {allowed}")
    return found


@dataclass(frozen=True, slots=True)
class Stage:
    """Trials that run side by side, and the replicas they run on."""

    specs: tuple[TrialSpec, ...]
    replicas: int
    """The most replicas; fewer work while the cluster has no room for more."""
    cpus: int
    """CPUs that each replica takes from its node."""
    gpus: float
    threads: int
    """Threads per operation."""
    exclusive: bool
    """Whether the trials run one after another, on a replica that takes every CPU of its node."""
    accelerator: str | None = None
    """Type of GPU that each replica needs. None takes any node."""

    @property
    def labels(self) -> dict[str, str]:
        """The labels that a replica's node must have."""
        return {ACCELERATOR: self.accelerator} if self.accelerator else {}


def make_stages(plan: Plan, nodes: list[Node], *, grows: bool = False) -> list[Stage]:
    """Divide the pending trials into stages: first those that share a machine, then those that do not.

    There is at least one stage. ``grows`` says that nodes may join. Raises ``SweepError`` if the cluster can never hold
    the replicas.
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
        kind = sweep.accelerator
        stages.append(Stage(shared, replicas, cpus, share, threads=cpus, exclusive=False, accelerator=kind))
    if alone:
        stages.append(_exclusive_stage(sweep, alone, nodes))
    return stages


def _exclusive_stage(sweep: SweepSpec, specs: tuple[TrialSpec, ...], nodes: list[Node]) -> Stage:
    wanted = sweep.gpus_per_replica
    largest = max(nodes, key=lambda node: (node.get("GPU", 0) >= (wanted or 0), node.get("CPU", 0)))
    cores, has = int(largest.get("CPU", 0)), largest.get("GPU", 0)
    threads = sweep.cpus_per_replica or cores
    if sweep.autoscaling and (threads > cores or (wanted or 0) > has):
        cores = threads  # nothing more is known about a future node
    elif threads > cores or (wanted or 0) > has:
        raise SweepError(
            f"cpus_per_replica is {threads} and gpus_per_replica {wanted or 0:g}, for trials that have a machine to "
            f"themselves; allowed: {cores} CPU and {has:g} GPU at most, as the largest node has"
        )
    if threads < 1:
        raise SweepError(
            "no node of the cluster has a CPU for trials that have a machine to themselves; allowed: a cluster whose "
            "workers are up, or autoscaling with cpus_per_replica"
        )
    gpus = min(1.0, has) if wanted is None else wanted
    return Stage(specs, 1, cores, gpus, threads=threads, exclusive=True, accelerator=sweep.accelerator)


def place_replicas(sweep: SweepSpec, nodes: list[Node], *, grows: bool = False) -> tuple[int, float]:
    """Return the CPUs and GPUs of each replica.

    Raises ``SweepError`` if the nodes cannot hold all replicas at once or, if the cluster ``grows``, not even one. New
    nodes are assumed to be like the present ones, unless the sweep sets ``autoscaling``.
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
    """Return the CPUs of each replica if all CPUs are used and all replicas fit, else 1."""
    most = int(sum(node.get("CPU", 0) for node in nodes)) // replicas
    return next((cpus for cpus in range(most, 1, -1) if _room(cpus, gpus, nodes) >= replicas), 1)


def _room(cpus: int, gpus: float, nodes: list[Node]) -> int:
    """Return how many replicas the nodes hold at once."""
    return sum(
        int(min(node.get("CPU", 0) // cpus, (node.get("GPU", 0) + 1e-6) // gpus if gpus else float("inf")))
        for node in nodes
    )


def _largest(nodes: list[Node]) -> str:
    cpus, gpus = (max(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    return f", at most {cpus:g} CPU and {gpus:g} GPU on one"
