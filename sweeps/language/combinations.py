"""The combinations of a sweep file: every choice of values that it defines, before they become trials.

Each of these sections gives axes. The combinations are the product of all axes:

    grid: {agents: [2, 3]}                      # every field is an axis of its own
    zip: {agents: [2, 3], rounds: [2, 1]}       # fields that move together
    list: [{method: dense}, {method: kvcomm}]   # combinations one by one; a field left out has its default
    random: {samples: 20, seed: 0, fields: {kvcomm.gamma: {uniform: [0, 1]}}}
    repeats: 3                                  # seed, seed + 1, seed + 2

A field may appear in one place only.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.spec import TRIAL_FIELDS
from kvcomm_core.config import shown
from sweeps.language.distributions import Distribution, read_distribution
from sweeps.language.fields import SECTIONS, SETTINGS, check_name, refuse_name
from sweeps.language.strict_yaml import Plain, SweepError, as_written

MAX_TRIALS = 100_000

Row = dict[str, Plain]
"""Values of some trial fields."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One factor of the product."""

    section: str
    """``top``, ``grid``, ``zip``, ``list``, ``random`` or ``repeats``."""
    fields: tuple[str, ...]
    rows: Sequence[Row]
    """The alternatives; each combination contains one of them."""
    text: str
    """Description of the axis, for ``kvcomm plan``."""


class _Samples(Sequence[Row]):
    """The rows of ``random``, drawn on demand, since the number of combinations may prove too large."""

    def __init__(self, samples: int, seed: int, fields: dict[str, Distribution]) -> None:
        self.samples, self.seed, self.fields = samples, seed, fields

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.samples:
            raise IndexError(index)
        draws = {key: field.draw(f"{self.seed} {index} {key}") for key, field in self.fields.items()}
        return {key: _workload_in_full(key, value) for key, value in draws.items()}


def read_axes(entries: dict[str, Plain], also: Sequence[str] = ()) -> list[Axis]:
    """Return the axes of a file or a part of it. The top-level fields come first, as an axis of one row.

    ``also`` lists keys that are allowed but ignored here. Raises ``SweepError``.
    """
    top: Row = {}
    for key, value in entries.items():
        if key not in (*SETTINGS, *SECTIONS, *also):
            check_name(key, (*SETTINGS, *SECTIONS, *TRIAL_FIELDS))
            top[key] = _workload_in_full(key, value)
    axes = [Axis("top", tuple(top), [top], "")]
    for section, read in (("list", _list), ("zip", _zip), ("grid", _grid), ("random", _random)):
        if section in entries:
            axes += read(entries[section])
    if "repeats" in entries:
        axes.append(_repeats(entries["repeats"], top.get("seed", 0)))
    _check_given_once(axes)
    return axes


def combine(axes: Sequence[Axis]) -> list[Row]:
    """Return every combination. The last axis varies fastest, and ``repeats`` slowest: a machine that gets slower then
    does so for all cells alike, and a sweep that is cut off has every cell.

    Raises ``SweepError`` if there are too many.
    """
    size = math.prod(len(axis.rows) for axis in axes)
    if size > MAX_TRIALS:
        factors = " x ".join(f"{len(axis.rows):,} of {axis.section}" for axis in axes if len(axis.rows) > 1)
        raise SweepError(f"the sweep has {size:,} combinations ({factors}); allowed: {MAX_TRIALS:,} at most")
    slowest_first = sorted(axes, key=lambda axis: {"top": 0, "repeats": 1}.get(axis.section, 2))
    rows = itertools.product(*(axis.rows for axis in slowest_first))
    return [{key: value for row in chosen for key, value in row.items()} for chosen in rows]


def _grid(grid: Plain) -> Iterator[Axis]:
    if not isinstance(grid, dict) or not grid:
        raise SweepError(f"grid is {shown(grid)}; allowed: a mapping of trial fields to lists of values")
    for key, values in grid.items():
        rows = [{key: value} for value in _column("grid", key, values)]
        yield Axis("grid", (key,), rows, f"{key}: {_listed([row[key] for row in rows])}")


def _zip(columns: Plain) -> Iterator[Axis]:
    if not isinstance(columns, dict) or not columns:
        raise SweepError(f"zip is {shown(columns)}; allowed: a mapping of trial fields to lists of equal length")
    values = {key: _column("zip", key, column) for key, column in columns.items()}
    (first, column), *others = values.items()
    for key, other in others:
        if len(other) != len(column):
            lengths = f"{len(column)} values and zip.{key} {len(other)}"
            raise SweepError(f"zip.{first} has {lengths}; allowed: lists of equal length, which move together")
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    yield Axis("zip", tuple(values), rows, _listed(rows))


def _list(given: Plain) -> Iterator[Axis]:
    if not isinstance(given, list) or not given:
        raise SweepError(f"list is {shown(given)}; allowed: a list of mappings of trial fields to values")
    rows: list[Row] = []
    for index, row in enumerate(given):
        if not isinstance(row, dict):
            raise SweepError(f"list[{index}] is {shown(row)}; allowed: a mapping of trial fields to values")
        for key in row:
            check_name(key)
        rows.append({key: _workload_in_full(key, value) for key, value in row.items()})
    fields = tuple(dict.fromkeys(key for row in rows for key in row))
    yield Axis("list", fields, rows, _listed(given))


def _random(given: Plain) -> Iterator[Axis]:
    if not isinstance(given, dict):
        raise SweepError(f"random is {shown(given)}; allowed: a mapping with samples, seed and fields")
    for key in given:
        if key not in ("samples", "seed", "fields"):
            refuse_name(key, ("samples", "seed", "fields"), "a key of random")
    for key in ("samples", "fields"):
        if key not in given:
            raise SweepError(f"random.{key} is missing")
    samples = _whole("random.samples", given["samples"], 1, MAX_TRIALS)
    seed = _whole("random.seed", given.get("seed", 0), 0, 2**63 - 1)
    fields = given["fields"]
    if not isinstance(fields, dict) or not fields:
        raise SweepError(f"random.fields is {shown(fields)}; allowed: a mapping of trial fields to distributions")
    distributions: dict[str, Distribution] = {}
    for key, value in fields.items():
        check_name(key)
        distributions[key] = read_distribution(f"random.fields.{key}", value)
    drawn = ", ".join(f"{key} {as_written(value)}" for key, value in fields.items())
    rows = _Samples(samples, seed, distributions)
    yield Axis("random", tuple(fields), rows, f"{samples} samples, seed {seed}: {drawn}")


def _repeats(repeats: Plain, seed: Plain) -> Axis:
    count = _whole("repeats", repeats, 1, MAX_TRIALS)
    first = _whole("seed", seed, 0, 2**63 - count)
    rows: list[Row] = [{"seed": value} for value in range(first, first + count)]
    return Axis("repeats", (), rows, f"seed: {_listed([row['seed'] for row in rows])}")


def _column(where: str, key: str, values: Plain) -> list[Plain]:
    check_name(key)
    if not isinstance(values, list) or not values:
        raise SweepError(f"{where}.{key} is {shown(values)}; allowed: a list with at least one value")
    return [_workload_in_full(key, value) for value in values]


def _workload_in_full(key: str, value: Plain) -> Plain:
    """Expand ``recall`` to ``{name: recall}``."""
    return {"name": value} if key == "workload" and isinstance(value, str) else value


def _whole(field: str, value: Plain, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SweepError(f"{field} is {shown(value)}; allowed: a whole number from {low} to {high}")
    return value


def _check_given_once(axes: Sequence[Axis]) -> None:
    places: dict[str, str] = {}
    for axis in axes:
        place = "at the top" if axis.section == "top" else f"under {axis.section}"
        for field in axis.fields:
            if field in places:
                raise SweepError(f"{field} stands both {places[field]} and {place}; allowed: one of them")
            places[field] = place
    if any(axis.section == "repeats" for axis in axes) and places.get("seed", "at the top") != "at the top":
        raise SweepError(f"repeats is given, and seed stands {places['seed']}; allowed: one of them")
    for dotted in places:
        head, _, leaf = dotted.partition(".")
        rows = [row for axis in axes if leaf and head in axis.fields for row in axis.rows]
        if any(isinstance(value := row.get(head), dict) and leaf in value for row in rows):
            raise SweepError(f"{dotted} is given twice, by itself and in {head}; allowed: one of them")


def _listed(values: Sequence[Plain]) -> str:
    """Return the values as text, such as ``2, 3, 4``. If there are many, list only the first few."""
    texts = [as_written(value) for value in values[:8]]
    return ", ".join(texts if len(values) <= 8 else [*texts, f"... ({len(values)} values)"])
