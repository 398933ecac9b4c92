"""The libraries, devices, models and data of this machine."""

import importlib
from dataclasses import MISSING, dataclass, fields
from typing import Literal

from harness.environment import Environment, capture_environment, package_version
from harness.workloads import DataMissingError, Workload, built_in
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.model_source import find_model


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    kind: Literal["library", "device", "model", "data"]
    name: str
    found: bool
    detail: str
    """Version or place. If not found, the remedy."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings of ``kvcomm doctor``."""

    environment: Environment
    findings: tuple[Finding, ...]


def diagnose() -> Diagnosis:
    """Check this machine. Imports torch, to see the devices that torch sees."""
    libraries = [_library(name) for name in ("torch", "transformers", "ray", "mlflow")]
    environment = capture_environment()  # after the import of torch, to count threads and GPUs
    gpus = [Finding("device", f"cuda:{index}", True, name) for index, name in enumerate(environment.gpus)]
    cpu = Finding("device", "cpu", True, f"{environment.cpu}, {environment.cores} cores")
    return Diagnosis(
        environment,
        (
            *libraries,
            cpu,
            *gpus,
            _embedded(),
            *_hub_models(),
            *(_data(name, workload) for name, workload in built_in().items() if _has_default_data(workload)),
        ),
    )


def _library(name: str) -> Finding:
    version = package_version(name)
    if version is None:
        return Finding("library", name, False, f"not installed; pip install {name}")
    if name == "torch":
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            return Finding("library", name, False, f"{version} is installed but cannot be loaded: {error}")
    return Finding("library", name, True, version)


def _embedded() -> Finding:
    try:
        return Finding("model", "embedded", True, find_model("embedded").location)
    except ModelError as error:
        return Finding("model", "embedded", False, str(error))


def _hub_models() -> list[Finding]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    models = sorted((repo for repo in repositories if repo.repo_type == "model"), key=lambda repo: repo.repo_id)
    return [Finding("model", repo.repo_id, True, f"{repo.repo_path}, {repo.size_on_disk_str}") for repo in models]


def _has_default_data(workload: type[Workload]) -> bool:
    return workload.graded and all(field.default is not MISSING for field in fields(workload))


def _data(name: str, workload: type[Workload]) -> Finding:
    try:
        items = workload(name=name).load(seed=0)
    except (DataMissingError, ValueError) as error:
        return Finding("data", name, False, str(error))
    return Finding("data", name, True, f"its default {len(items)} items can be had")
