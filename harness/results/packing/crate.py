"""The provenance of packed results: an RO-Crate, https://w3id.org/ro/crate/1.2, as repositories of data read it.

The crate names every file with its size and SHA-256, and for each sweep the runs that made its trials: when, on which
hardware, by which commit of this package.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

CRATE = "ro-crate-metadata.json"
_VERSION = "https://w3id.org/ro/crate/1.2"
_FORMATS = {".parquet": "application/vnd.apache.parquet", ".yaml": "application/yaml", ".json": "application/json"}

Entity = dict[str, Any]


def crate_of(folder: Path, trials: dict[str, pa.Table]) -> str:
    """Return the text of the crate of a folder with results. ``trials`` holds the rows of ``trials`` by sweep."""
    files = [_file(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
    runs = [run for sweep, rows in trials.items() for run in _runs(sweep, rows, files)]
    ended = [pc.max(rows["ended_at"]).as_py() for rows in trials.values() if len(rows)]
    n_trials = sum(map(len, trials.values()))
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Results of kvcomm: {', '.join(trials)}",
        "description": f"{n_trials} trials of KV-cache reuse between agents; a Parquet file per sweep and table.",
        **({"datePublished": max(ended).date().isoformat()} if ended else {}),
        "hasPart": _references(files),
        "mentions": _references(runs),
    }
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _VERSION},
        "about": {"@id": root["@id"]},
    }
    tools = {tool["@id"]: tool for rows in trials.values() for tool in _tools(rows)}
    graph = [descriptor, root, *files, *runs, *tools.values()]
    return json.dumps({"@context": f"{_VERSION}/context", "@graph": graph}, indent=1) + "\n"


def _file(folder: Path, path: Path) -> Entity:
    return {
        "@id": quote(path.relative_to(folder).as_posix()),
        "@type": "File",
        "name": path.name,
        "encodingFormat": _FORMATS.get(path.suffix, "application/octet-stream"),
        "contentSize": str(path.stat().st_size),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _runs(sweep: str, trials: pa.Table, files: Sequence[Entity]) -> list[Entity]:
    """Return one action per commit and hardware that ran trials of a sweep."""
    own = [one for one in files if one["@id"].startswith(f"{quote(sweep)}/")]
    made_of = [one for one in own if one["@id"].endswith("/sweep.yaml")]
    found: dict[tuple[str, str], list[Entity]] = {}
    for row in trials.select(["git_commit", "env_json", "device", "started_at", "ended_at"]).to_pylist():
        found.setdefault((_commit(row), _hardware(row)), []).append(row)
    return [
        {
            "@id": f"#{quote(sweep)}-{number}",
            "@type": "CreateAction",
            "name": f"{len(rows)} {'trial' if len(rows) == 1 else 'trials'} of the sweep {sweep}",
            "description": hardware,
            "startTime": min(row["started_at"] for row in rows).isoformat(),
            "endTime": max(row["ended_at"] for row in rows).isoformat(),
            "instrument": {"@id": f"#kvcomm-{commit}"},
            "object": _references(made_of),
            "result": _references(one for one in own if one["encodingFormat"] == _FORMATS[".parquet"]),
        }
        for number, ((commit, hardware), rows) in enumerate(sorted(found.items()), start=1)
    ]


def _tools(trials: pa.Table) -> Iterable[Entity]:
    """Yield this package at each commit that ran trials, with the versions of the packages it ran on."""
    for row in trials.select(["git_commit", "env_json"]).to_pylist():
        packages = json.loads(row["env_json"]).get("packages", {})
        on = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        yield {
            "@id": f"#kvcomm-{_commit(row)}",
            "@type": "SoftwareApplication",
            "name": "kvcomm",
            "softwareVersion": f"{packages.get('kvcomm-harness') or 'unknown version'}, commit {_commit(row)}",
            "softwareRequirements": on,
        }


def _commit(row: Entity) -> str:
    return str(row["git_commit"] or "unknown")


def _hardware(row: Entity) -> str:
    environment = json.loads(row["env_json"])
    device, cores = row["device"], environment.get("cores")
    processor = environment.get("cpu") if device in (None, "cpu") else device
    return ", ".join(filter(None, (processor, f"{cores} CPU cores" if cores else None))) or "unknown hardware"


def _references(entities: Iterable[Entity]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]
