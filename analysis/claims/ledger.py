"""The ledger of claims, a YAML file, as typed data.

A claim names a measure, the cells it is taken in, and a test. The file is hashed as it is, and every trial records the
hash of the ledger that its code came with (``harness/environment.py``), so results can show that a ledger is older than
they are.
"""

import hashlib
import json
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from analysis.claims.quantities import QUANTITIES
from harness.cells import Scalar
from harness.methods import BUILT_IN, find_method
from harness.spec import TRIAL_FIELDS
from harness.workloads import built_in, find_workload
from kvcomm_core.config import one_line, require, shown

Side = dict[str, Scalar]
"""Spec fields of the trials of a cell, such as ``kvcomm.gamma: 0.3``; ``agent`` takes the turns of one agent alone."""

Test = Literal["superior", "noninferior", "equivalent", "ordered"]


class LedgerError(ValueError):
    """A ledger cannot be used; the message is one line with file, field, value and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of the paper, with the test that decides it."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    id: str
    says: str
    """The claim in our words."""
    source: str
    """Where the paper makes it: ``Table 1``."""
    sweep: str
    """The file in ``sweeps/paper`` whose trials decide it."""
    tasks: list[str]
    """Workloads: the paper's, then those that may stand in for it."""
    measure: str
    """A measure of ``analysis/measures.py``: a name of ``quantities.QUANTITIES``."""
    test: Test
    direction: Literal["higher", "lower"] = "higher"
    """For ``superior`` and ``ordered``, where our side, or each next cell, is claimed to lie; for ``noninferior`` which
    end of the measure is the good one."""
    margin: float = 0.0
    """In the measure's unit. ``superior``: our side is better by more than this. ``noninferior``: worse by less.
    ``equivalent``: neither better nor worse by this. ``ordered``: no step goes back by this."""
    both: Side = field(default_factory=dict)
    """Fields of all cells."""
    ours: Side = field(default_factory=dict)
    theirs: Side | None = None
    than: float | None = None
    """A fixed number to compare with, in place of ``theirs``."""
    along: dict[str, list[Scalar]] | None = None
    """For ``ordered``: one field and its values, in order."""
    least_n: int = 100
    """Fewest items, or repeats of a timing, that may decide the claim."""

    def __post_init__(self) -> None:
        for name in ("id", "says", "source", "sweep"):
            require(bool(getattr(self, name).strip()), name, getattr(self, name), "text")
        require(self.measure in QUANTITIES, "measure", self.measure, ", ".join(QUANTITIES))
        require(0 <= self.margin < float("inf"), "margin", self.margin, "0 or more")
        if self.test in ("noninferior", "equivalent"):
            require(self.margin > 0, "margin", self.margin, f"above 0, with test {self.test}")
        require(self.least_n >= 2, "least_n", self.least_n, "2 or more")
        require(bool(self.tasks), "tasks", self.tasks, "one workload or more")
        for task in self.tasks:
            require(task in built_in(), "tasks", task, ", ".join(built_in()))
        given = [name for name in ("theirs", "than", "along") if getattr(self, name) is not None]
        wanted = ["along"] if self.test == "ordered" else ["theirs", "than"]
        allowed = f"one of {', '.join(wanted)}, with test {self.test}"
        require(len(given) == 1 and given[0] in wanted, "the other side", ", ".join(given) or "none", allowed)
        if self.along is not None:
            points = list(self.along.values())
            require(len(points) == 1 and len(points[0]) > 1, "along", self.along, "one field with two values or more")
        for name, side in (("both", self.both), ("ours", self.ours), ("theirs", self.theirs), ("along", self.along)):
            for key in side or {}:
                self._check_field(name, key)
        for side in self.cells:
            method, agent = side.get("method"), side.get("agent", 1)
            require(method in BUILT_IN, "method", method, f"in every cell, {', '.join(BUILT_IN)}")
            require(type(agent) is int and agent >= 1, "agent", agent, "1 or more")

    def _check_field(self, place: str, key: str) -> None:
        """Refuse a misspelt field, which no trial would match."""
        head, _, leaf = key.partition(".")
        if head == "workload" and leaf not in ("name", ""):
            known = any(leaf in find_workload(task).__dataclass_fields__ for task in self.tasks)
        elif leaf:
            known = head in BUILT_IN and leaf in find_method(head).__dataclass_fields__
        else:
            known = key == "agent" or key in TRIAL_FIELDS
        require(known, f"{place}.{key}", "no field of a trial", "agent, or a field such as agents or kvcomm.gamma")

    @property
    def cells(self) -> list[Side]:
        """The cells that are compared: ours and theirs, ours alone, or one for each value of ``along``."""
        if self.along is not None:
            [(key, values)] = self.along.items()
            return [{**self.both, **self.ours, key: value} for value in values]
        sides = [self.ours] if self.theirs is None else [self.ours, self.theirs]
        return [{**self.both, **side} for side in sides]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Claims, and the SHA-256 of the file that holds them."""

    claims: tuple[Claim, ...]
    sha256: str


def read_ledger(path: Path | None = None) -> Ledger:
    """Read a ledger; the one that ships with the package by default. Raises ``LedgerError``."""
    name = "claims.yaml" if path is None else str(path)
    try:
        data = (files("analysis") / "claims.yaml" if path is None else path).read_bytes()
        entries = yaml.load(data, Loader=_Loader)  # noqa: S506 - a SafeLoader that also refuses repeated keys
        claims = _CLAIMS.validate_json(json.dumps(entries, default=str))  # strict, but a mapping may become a claim
    except OSError as error:
        raise LedgerError(f"{name} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise LedgerError(f"{name}: {_first_fault(error, entries)}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise LedgerError(f"{name}: not YAML ({one_line(error)[:300]}); allowed: a list of claims") from None
    ids = [claim.id for claim in claims]
    for one in ids:
        if ids.count(one) > 1:
            raise LedgerError(f"{name}: id is {shown(one)} twice; allowed: one claim for each id")
    return Ledger(tuple(claims), hashlib.sha256(data).hexdigest())


_CLAIMS = TypeAdapter(list[Claim])


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would drop one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _first_fault(error: ValidationError, entries: Any) -> str:
    """Describe the first error in one line: the claim, the field, its value and what is allowed."""
    fault = error.errors()[0]
    if not fault["loc"]:
        return f"is {shown(entries)}; allowed: a list of claims"
    index, *rest = fault["loc"]
    named = entries[index].get("id") if isinstance(entries[index], dict) else None
    claim = f"claim {shown(named) if named else index}"
    where = ".".join(str(part) for part in rest)
    match fault["type"]:
        case "value_error":
            return one_line(f"{claim}: {fault['ctx']['error']}")
        case "missing" | "missing_argument":
            return f"{claim}: {where} is missing"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{claim}: {where} is no field of a claim; allowed: {', '.join(Claim.__dataclass_fields__)}"
    return one_line(f"{claim}: {where or 'it'} is {shown(fault['input'])}; allowed: {fault['msg']}")
