"""A look at this machine: libraries, devices, memory, disk, a sandbox, models and data.

The checks run side by side, since importing torch alone takes a second or two, and it is imported in a process of its
own, which a broken installation cannot take along. A check that waits for the network is given up.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from harness.environment import Environment, capture_environment, package_version
from harness.tools.sandbox.jail.layers import UnsafeSandboxError
from harness.tools.sandbox.python_sandbox import active_layers, require_safe
from harness.workloads import DataMissingError, Workload, built_in
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.model_source import find_model
from kvcomm_core.models.named_models import NAMED_MODELS
from sweeps.torch_devices import looking_at_devices

PATIENCE_S = 1.5
"""Seconds after which a check of data is given up. A file that is here is read in a tenth of that."""
LITTLE_DISK = 2 << 30
"""Bytes. A converted embedded model takes 0.5 GiB, and the results of the paper's tables less."""
GIB = 1 << 30

Kind = Literal["library", "device", "sandbox", "disk", "model", "data"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    kind: Kind
    name: str
    found: bool
    detail: str
    """Version, size or place. If not found, the remedy."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings of ``kvcomm doctor``."""

    environment: Environment
    findings: tuple[Finding, ...]


def diagnose() -> Diagnosis:
    """Check this machine in about two seconds."""
    with looking_at_devices() as devices:
        data = {name: workload for name, workload in built_in().items() if _has_default_data(workload)}
        checks: list[tuple[Kind, str, Callable[[], Finding]]] = [
            ("sandbox", "python", _sandbox),
            *(("data", name, _of_workload(name, workload)) for name, workload in data.items()),
        ]
        sandbox, *of_data = _side_by_side(checks)
        libraries = [_library("transformers"), _ray(), _library("mlflow")]
        places = [*_disks(), sandbox, *_named_models(), *_hub_models()]
        seen = devices()
    environment = replace(capture_environment(), threads=seen.threads, gpus=tuple(name for name, _, _ in seen.gpus))
    cpu = Finding("device", "cpu", True, f"{environment.cpu}, {environment.cores} cores, {_memory()}")
    gpus = [
        Finding("device", f"cuda:{index}", True, f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
        for index, (name, free, total) in enumerate(seen.gpus)
    ]
    return Diagnosis(environment, (_torch(seen.failure), *libraries, cpu, *gpus, *places, *of_data))


def _torch(failure: str) -> Finding:
    version = package_version("torch")
    if version is None or not failure:
        return _library("torch")
    return Finding("library", "torch", False, f"{version} is installed but cannot be loaded: {failure}")


def _library(name: str) -> Finding:
    version = package_version(name)
    if version is None:
        return Finding("library", name, False, f"not installed; pip install {name}")
    return Finding("library", name, True, version)


def _ray() -> Finding:
    """Say which cluster `kvcomm run` would use."""
    found = _library("ray")
    if not found.found:
        return Finding("library", "ray", False, f"{found.detail}, or run with --in-process")
    address = os.environ.get("RAY_ADDRESS")
    if address:
        return Finding("library", "ray", True, f"{found.detail}; RAY_ADDRESS names the cluster {address}")
    shared = Path("/dev/shm")  # noqa: S108 - Ray's own choice, only looked at
    memory = f", {_free(shared)} in its shared memory" if shared.is_dir() else ""
    return Finding("library", "ray", True, f"{found.detail}; kvcomm run starts a cluster of its own{memory}")


def _sandbox() -> Finding:
    """Say whether code that a model wrote can be confined, which humaneval and the role Programming Expert need."""
    try:
        require_safe(allow_unsafe=False)
    except UnsafeSandboxError as error:
        return Finding("sandbox", "python", False, str(error))
    return Finding("sandbox", "python", True, ", ".join(active_layers()))


def _disks() -> list[Finding]:
    """Look at the places that runs write to."""
    cache = Path.home() / ".cache"
    models = cache if cache.is_dir() else Path.home()
    places = {"results": Path.cwd(), "models": models, "temporary": Path(tempfile.gettempdir())}
    return [_disk(name, place) for name, place in places.items()]


def _disk(name: str, place: Path) -> Finding:
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding("disk", name, False, f"{place} cannot be looked at: {error.strerror}")
    if not os.access(place, os.W_OK):
        return Finding("disk", name, False, f"{place} cannot be written")
    enough = free >= LITTLE_DISK
    return Finding(
        "disk", name, enough, f"{place}, {_free(place)}{'' if enough else f'; {LITTLE_DISK / GIB:g} are safe'}"
    )


def _free(place: Path) -> str:
    usage = shutil.disk_usage(place)
    return f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"


def _named_models() -> list[Finding]:
    return [_named(name) for name in NAMED_MODELS]


def _named(name: str) -> Finding:
    try:
        return Finding("model", name, True, find_model(name).location)
    except ModelError as error:
        return Finding("model", name, False, str(error))


def _hub_models() -> list[Finding]:
    try:
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ModuleNotFoundError:  # who only reads results has no models
        return []
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    models = sorted((repo for repo in repositories if repo.repo_type == "model"), key=lambda repo: repo.repo_id)
    return [Finding("model", repo.repo_id, True, f"{repo.repo_path}, {repo.size_on_disk_str}") for repo in models]


def _has_default_data(workload: type[Workload]) -> bool:
    return workload.graded and all(field.default is not MISSING for field in fields(workload))


def _of_workload(name: str, workload: type[Workload]) -> Callable[[], Finding]:
    def check() -> Finding:
        try:
            items = workload(name=name).load(seed=0)
        except (DataMissingError, ValueError, ModuleNotFoundError) as error:
            return Finding("data", name, False, str(error))
        return Finding("data", name, True, f"its default {len(items)} items can be had")

    return check


def _side_by_side(checks: Sequence[tuple[Kind, str, Callable[[], Finding]]]) -> list[Finding]:
    """Run checks in threads, and return their findings in order. One that takes too long is left behind."""
    found: dict[int, Finding] = {}

    def run(index: int, check: Callable[[], Finding]) -> None:
        found[index] = check()

    threads: list[Any] = []
    for index, (_, _, check) in enumerate(checks):
        threads.append(threading.Thread(target=run, args=(index, check), daemon=True))
        threads[-1].start()
    end = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {PATIENCE_S:g} s; it may wait for the network"
    return [found.get(index, Finding(kind, name, False, late)) for index, (kind, name, _) in enumerate(checks)]
