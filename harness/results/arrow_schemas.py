"""The tables of a results folder and their Arrow schemas, derived from the record classes."""

import dataclasses
import types
import typing
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from harness.results.measurements import AnchorRecord, FidelityRecord, KVStatistic, ProbeRecord
from harness.results.trial_result import SampleRecord, TrialRow, TurnRecord

RecordTable = Literal["turns", "samples", "fidelity", "probes", "kv_statistics", "anchors"]
Table = Literal["trials"] | RecordTable

_ARROW_TYPES: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def schema_of(record: type) -> pa.Schema:
    """Return the explicit Arrow schema of a record class: annotations become types, ``| None`` becomes nullable."""
    hints = typing.get_type_hints(record)
    return pa.schema([arrow_field(f.name, hints[f.name]) for f in dataclasses.fields(record)])


def arrow_field(name: str, hint: Any) -> pa.Field:
    """Return the column of a field with this annotation. Raise ``LookupError`` or ``ValueError`` if no Arrow type
    stands for it."""
    nullable = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # the latter for a Literal or None
        (hint,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        nullable = True
    if typing.get_origin(hint) is Literal:
        hint = str
    return pa.field(name, _ARROW_TYPES[hint], nullable=nullable)


def columns_of(record: type, rows: Sequence[object]) -> dict[str, list[object]]:
    """Return the fields of records as columns."""
    return {field.name: [getattr(row, field.name) for row in rows] for field in dataclasses.fields(record)}


RECORDS: dict[Table, type] = {
    "turns": TurnRecord,
    "samples": SampleRecord,
    "fidelity": FidelityRecord,
    "probes": ProbeRecord,
    "kv_statistics": KVStatistic,
    "anchors": AnchorRecord,
    "trials": TrialRow,
}
"""Record class of each table, in the order in which an attempt is written."""

SCHEMAS: dict[Table, pa.Schema] = {table: schema_of(record) for table, record in RECORDS.items()}
"""Schema of each table, in the same order."""
