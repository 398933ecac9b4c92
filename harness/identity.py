"""The identity of a trial: a hash of its spec.

A sweep resumes by it: a spec whose identity has a finished result does not run again. The hash covers the fields that
differ from their defaults, so that a new field or method changes no earlier identity. It also holds the version of a
plug-in, or the digest of its file, and the digest of what a team consists of, wherever its file lies. A workload's own
team counts once it is no longer the first edition.
"""

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from harness.agents import revised_prompts
from harness.methods import method_version
from harness.topology import topology_version
from harness.workloads import workload_version

if TYPE_CHECKING:
    from harness.spec import TrialSpec

IDENTITY_VERSION = 3
"""Raise it when the meaning of a field changes, so that old results are not mistaken for new ones."""


def identity_of(spec: "TrialSpec") -> str:
    """Return twelve hexadecimal digits of the SHA-256 of what differs from the defaults, as canonical JSON."""
    payload: dict[str, Any] = {"identity_version": IDENTITY_VERSION, **_changed(spec)}
    payload["workload"] = {"name": spec.workload.name, **_changed(spec.workload)}
    payload["method"] = {"name": spec.method, **_changed(spec.parameters)}
    for part, version in (
        ("method", method_version(spec.method)),
        ("workload", workload_version(spec.workload.name)),
    ):
        if version is not None:
            payload[part]["version"] = version
    payload["workload"] |= spec.workload.versions()
    if (version := topology_version(spec.topology)) is not None:
        payload["topology"] = {"name": spec.topology, "version": version}
    if spec.team is not None:
        payload["team"] = spec.team.digest
    elif (prompts := revised_prompts(spec.workload.team)) is not None:
        payload["workload"]["prompts"] = prompts
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _changed(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, but for nested dataclasses and the name."""
    return {
        f.name: value
        for f in fields(record)
        if f.name not in ("workload", "method", "parameters", "name", "team")
        and (value := getattr(record, f.name)) != f.default
    }
