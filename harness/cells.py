"""Cells: flat specs, and short names made of the fields that differ among trials.

A *cell* is everything in a spec except the seed. Trials that differ only in the seed are repetitions of one cell.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.agents import label_of
from harness.methods import BUILT_IN, parameters_key

Scalar = str | int | float | bool | None
FlatSpec = dict[str, Scalar]


@dataclass(frozen=True, slots=True)
class Cell:
    """The name of a cell among others."""

    workload: str
    """``recall``, or ``recall limit=12`` where the limit differs among the recall trials."""
    agents: int
    method: str
    """``dense``, or ``kvcomm gamma=0.1`` where gamma differs among the kvcomm trials."""
    settings: str
    """Other fields that differ, ``dtype=float32 rounds=1``; empty if there are none."""

    def __str__(self) -> str:
        parts = (self.workload, f"{self.agents} agents", self.method, self.settings)
        return ", ".join(part for part in parts if part)

    @property
    def situation(self) -> str:
        """The name without the method: what the cells that are compared with each other share."""
        return str(replace(self, method=""))


def flatten(spec: Mapping[str, object], prefix: str = "") -> FlatSpec:
    """Flatten a spec to one level with dotted keys: ``workload.limit``. Lists become their text, a team its label."""
    flat: FlatSpec = {} if prefix else {"team": None, "prompts": None}  # the records of earlier versions have none
    for key, value in spec.items():
        if key == "team" and not prefix:
            flat[key] = label_of(value.get("name"), value.get("digest")) if isinstance(value, Mapping) else None
        elif isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value if isinstance(value, Scalar) else str(value)
    return flat


def name_cells(specs: Sequence[FlatSpec]) -> list[Cell]:
    """Name the cell of each spec by the fields that differ where they apply."""
    # Repetitions are many and share their cell, so each cell is looked at once.
    contents = [tuple((key, value) for key, value in spec.items() if key != "seed") for spec in specs]
    different = {content: dict(content) for content in contents}
    scopes = {content: {key: scope_of(key, spec) for key in spec} for content, spec in different.items()}
    values: defaultdict[tuple[str, str], set[Scalar]] = defaultdict(set)
    for content, spec in different.items():
        for key, value in spec.items():
            values[scopes[content][key], key].add(value)
    cells = {
        content: _cell(spec, {key for key, scope in scopes[content].items() if len(values[scope, key]) > 1})
        for content, spec in different.items()
    }
    return [cells[content] for content in contents]


def scope_of(key: str, spec: FlatSpec) -> str:
    """Return the scope in which a field is compared: the workload's or method's name for its own fields, else empty."""
    if key.startswith("workload.") or key == "prompts":
        return str(spec["workload.name"])
    if key == "fidelity" or "." in key or key == parameters_key(str(spec["method"])):
        return str(spec["method"])
    return ""


def method_fields(spec: Mapping[str, object]) -> frozenset[str]:
    """Return the fields of a spec, nested or flat, in which a trial may differ from its dense counterpart.

    Earlier records hold null under the names of the methods that a trial does not use.
    """
    return frozenset(("method", "fidelity", parameters_key(str(spec["method"])), *BUILT_IN))


def _cell(spec: FlatSpec, varied: set[str]) -> Cell:
    method_name = str(spec["method"])
    own = {"workload": [str(spec["workload.name"])], parameters_key(method_name): [method_name], "": []}
    plain = {"seed", "agents", "method", "workload.name", *(m for m in spec if spec[m] is None)}
    for key in (key for key in spec if key in varied and key not in plain):
        head, _, leaf = key.rpartition(".")
        own[head].append(f"{leaf}={spec[key]}")
    workload, method, settings = (" ".join(parts) for parts in own.values())
    return Cell(workload, int(str(spec["agents"])), method, settings)
