"""Match the cells of two results folders: cells are the same if their specs differ only in the seed.

The folders may come from different versions, so one may lack a field of the other. Such a field is ignored if all
trials of the other folder have the same value, since it then distinguishes none of them. Otherwise it counts as a
difference.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.arms import place_of
from harness.cells import Cell, FlatSpec, Scalar, name_cells, scope_of
from harness.methods import BUILT_IN

Specs = Mapping[str, FlatSpec]
"""Specs by trial id, in the order in which the trials ran."""


@dataclass(frozen=True, slots=True)
class MatchedCell:
    """A cell and its trials in each folder, by spec, so that the seeds can be paired."""

    cell: Cell
    a: dict[str, list[str]]
    """Trial ids by spec; empty if the folder has none. A spec has several ids if the identity rules changed; the last
    id is the latest."""
    b: dict[str, list[str]]


def match_cells(a: Specs, b: Specs) -> tuple[list[MatchedCell], list[str]]:
    """Return the cells of two folders in table order, and the fields that were ignored."""
    a, b = ({trial_id: _without_methods(spec) for trial_id, spec in side.items()} for side in (a, b))
    aside = _unknown(a, b) | _unknown(b, a)
    sides = [{trial_id: _known(spec, aside) for trial_id, spec in side.items()} for side in (a, b)]
    specs = [spec for side in sides for spec in side.values()]
    names = iter(name_cells(specs))
    matched: dict[str, MatchedCell] = {}
    for index, side in enumerate(sides):
        for trial_id, spec in side.items():
            name = next(names)
            key = _text({field: value for field, value in spec.items() if field != "seed"})
            cell = matched.setdefault(key, MatchedCell(name, {}, {}))
            (cell.a, cell.b)[index].setdefault(_text(spec), []).append(trial_id)
    return sorted(matched.values(), key=lambda one: place_of(one.cell)), sorted({field for _, field in aside})


def _unknown(side: Specs, other: Specs) -> set[tuple[str, str]]:
    """Return the (scope, field) pairs that no spec of ``other`` has and that have one value in all of ``side``."""
    known = {(scope_of(field, spec), field) for spec in other.values() for field in spec}
    scopes = {scope for spec in other.values() for scope in _scopes(spec)}
    trials = Counter(scope for spec in side.values() for scope in _scopes(spec))
    values: defaultdict[tuple[str, str], list[Scalar]] = defaultdict(list)
    for spec in side.values():
        for field, value in spec.items():
            values[scope_of(field, spec), field].append(value)
    return {
        (scope, field)
        for (scope, field), seen in values.items()
        if scope in scopes and (scope, field) not in known and len(seen) == trials[scope] and len(set(seen)) == 1
    }


def _scopes(spec: FlatSpec) -> set[str]:
    return {"", str(spec["method"]), str(spec["workload.name"])}


def _without_methods(spec: FlatSpec) -> FlatSpec:
    """Drop entries such as ``kvcomm: null``, which dense trials have and kvcomm trials lack."""
    return {field: value for field, value in spec.items() if field not in BUILT_IN}


def _known(spec: FlatSpec, aside: set[tuple[str, str]]) -> FlatSpec:
    return {field: value for field, value in spec.items() if (scope_of(field, spec), field) not in aside}


def _text(spec: FlatSpec) -> str:
    return json.dumps(spec, sort_keys=True)
