"""Hardware and software on which a sweep's trials ran. Each trial records its own, so mixed conditions show."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

_KNOWN_LENGTH = 12
"""Number of digits shown of a commit."""


def conditions(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """Return names and values: several values if the trials differ, ``unknown`` if no trial recorded one."""
    environments = [json.loads(text) for text in trials["env_json"]]
    commits = [
        None if pd.isna(commit) else f"{commit[:_KNOWN_LENGTH]}{_state(dirty)}"
        for commit, dirty in zip(trials["git_commit"], trials["git_dirty"], strict=True)
    ]
    packages = sorted({name for environment in environments for name in environment.get("packages") or {}})
    first, last = trials["started_at"].min(), trials["ended_at"].max()

    def of(key: str, text: Callable[[Any], str] = str) -> str:
        values = (environment.get(key) for environment in environments)
        return _distinct(None if value in (None, "") else text(value) for value in values)

    def version(name: str) -> str:
        versions = ((environment.get("packages") or {}).get(name) for environment in environments)
        return _distinct(version or "not installed" for version in versions)

    return [
        ("model", _distinct(trials["model"])),
        ("commit", _distinct(commits)),
        ("device", _distinct(None if pd.isna(device) else device for device in trials["device"])),
        ("CPU", of("cpu")),
        ("cores", of("cores")),
        ("memory", of("memory_bytes", lambda size: f"{size / 2**30:.1f} GiB")),
        ("GPUs", of("gpus", lambda names: ", ".join(names) or "none")),
        ("host", _distinct(trials["host"])),
        ("platform", of("platform")),
        ("Python", of("python")),
        ("ran", "unknown" if pd.isna(first) else f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"),
        *((name, version(name)) for name in packages),
    ]


def _state(dirty: object) -> str:
    if pd.isna(dirty):  # type: ignore[call-overload]
        return " (whether with local changes is unknown)"
    return " with local changes" if dirty else ""


def _distinct(values: Iterable[object]) -> str:
    known = list(dict.fromkeys("unknown" if value is None else str(value) for value in values))
    return "; ".join(known) if known else "unknown"
