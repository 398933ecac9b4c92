"""Columns of ``trials`` for the fields of a spec, one for each: ``dtype``, ``workload.limit``, ``kvcomm.gamma``.

They repeat what ``spec_json`` holds, so that a query needs no JSON. A field that does not apply to a trial, such as a
parameter of another method, is null. ``spec_json`` is the record: the columns are made from it as a file is written,
and results from before they were written have none.
"""

import dataclasses
import functools
import json
import typing
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from harness.cells import flatten
from harness.extensions import UnknownNameError
from harness.methods import BUILT_IN, find_method, parameters_key
from harness.results.arrow_schemas import SCHEMAS, arrow_field
from harness.spec import TRIAL_FIELDS, TrialSpec
from harness.workloads import UnknownWorkloadError, built_in, find_workload


@functools.cache
def parameter_schema() -> pa.Schema:
    """Return the columns for the fields of trials, of the built-in methods and of the built-in workloads."""
    spec = _fields("", TrialSpec, [name for name in TRIAL_FIELDS if name != "workload"])
    methods = [field for name in BUILT_IN for field in _of_method(name)]
    workloads = {field.name: field for one in built_in().values() for field in _of_workload(one)}
    known = SCHEMAS["trials"].names
    return pa.schema([field for field in (*spec, *methods, *workloads.values()) if field.name not in known])


def with_parameters(trials: pa.Table) -> pa.Table:
    """Return the rows of one trial with the columns of its parameters, those of plug-ins included."""
    [row] = trials.select(["method", "workload", "spec_json"]).to_pylist()
    schema = pa.unify_schemas([parameter_schema(), pa.schema(_of_plug_ins(row["method"], row["workload"]))])
    values = flatten(json.loads(row["spec_json"]))
    for field in schema:
        trials = trials.append_column(field, _column(values.get(field.name), field))
    return trials


def _of_plug_ins(method: str, workload: str) -> list[pa.Field]:
    """Return the columns of a method and a workload that are not built in."""
    try:
        methods = [] if method in BUILT_IN else _of_method(method)
        workloads = [] if workload in built_in() else _of_workload(find_workload(workload))
    except (UnknownNameError, UnknownWorkloadError):  # the record of a trial that failed for this reason
        return []
    known = {*SCHEMAS["trials"].names, *parameter_schema().names}
    return [field for field in (*methods, *workloads) if field.name not in known]


def _of_method(name: str) -> list[pa.Field]:
    record = find_method(name)
    return _fields(f"{parameters_key(name)}.", record, [field.name for field in dataclasses.fields(record)])


def _of_workload(record: type) -> list[pa.Field]:
    names = [field.name for field in dataclasses.fields(record) if field.name != "name"]
    return _fields("workload.", record, names)


def _fields(prefix: str, record: type, names: Iterable[str]) -> list[pa.Field]:
    hints = typing.get_type_hints(record)
    return [_field(prefix + name, hints[name]) for name in names]


def _field(name: str, hint: Any) -> pa.Field:
    try:
        return arrow_field(name, hint).with_nullable(True)
    except (LookupError, ValueError, TypeError):  # a list, a team: as text, as in the names of cells
        return pa.field(name, pa.string())


def _column(value: object, field: pa.Field) -> pa.Array:
    """Return the value as a column of one row. It is null if a plug-in's own annotation is wrong about it."""
    stored = str(value) if value is not None and field.type == pa.string() else value
    try:
        return pa.array([stored], field.type)
    except (pa.ArrowException, TypeError):
        return pa.nulls(1, field.type)
