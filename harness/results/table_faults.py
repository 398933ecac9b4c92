"""Checks of a results table: the columns, rows and values that a file must hold to be accepted as results.

A file that Parquet can read may still come from another program, version or trial, or hold a time that is not a number.
Everything that reads results uses these checks, so readers need not check single values again.
"""

import contextlib
import functools
import typing
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from harness.methods import parameters_key
from harness.results.arrow_schemas import RECORDS, SCHEMAS, Table
from harness.workloads import UnknownWorkloadError, find_workload
from kvcomm_core.config import shown
from kvcomm_core.files.strict_json import parse_json

_LATER: dict[Table, frozenset[str]] = {
    "turns": frozenset({"arm", "batch_size", "phase_recompute_s", "memory_bytes"}),
    "trials": frozenset({"exclusive"}),
}
"""Columns that are never null but that the first versions did not write. Other later columns are null where unknown."""

_KEYS: dict[Table, tuple[str, ...]] = {
    "turns": ("arm", "sample_index", "round", "agent_index"),
    "samples": ("sample_index",),
}
"""Columns whose values together identify a row."""

_ABOVE_0 = frozenset(
    {
        "attempt",
        "agent_index",
        "batch_size",
        "continuation_tokens",
        "prompt_tokens",
        "rounds",
        "ttft_s",
        "ttft_paper_s",
    }
)
_RATES = frozenset(
    {
        "accuracy",
        "token_reuse_rate",
        "turn_reuse_rate",
        "exact_prefix_rate",
        "estimated_rate",
        "top1_rate",
        "top1_continuation",
        "top1_continuation_mean",
        "greedy_agreement",
        "greedy_agreement_mean",
    }
)
_MOST_S = 1e9
"""Upper bound in seconds: thirty years."""
_MOST_US = 253_402_300_800_000_000
"""Upper bound in microseconds since 1970: the year 10000, beyond which Python has no dates."""
_ROUNDING = 1e-9
_FEW_ROWS = 2000
"""Rows up to which Python counts faster than Arrow, whose plans take a millisecond to set up."""


def fault_of(rows: pa.Table, schema: pa.Schema, table: Table, name: str, *, several: bool = False) -> str | None:
    """Return one line that says why the rows of a file do not belong in ``table``; None if they do.

    ``schema`` is that of the whole file. ``rows`` may lack some of its columns, whose values are then not checked.
    ``name`` is the file's name without its ending: that of its attempt, unless it holds ``several``.
    """
    return next(_faults(rows, schema, table, None if several else name), None)


def columns_to_check(schema: pa.Schema, table: Table) -> list[str]:
    """Return the columns of a file that reveal most faults of values: all but long texts."""
    texts = {field.name for field in SCHEMAS[table] if field.type == pa.string() and not _choices(table, field.name)}
    kept = {"trial_id", *_KEYS.get(table, ()), *_TRIAL_TEXTS}
    known = set(SCHEMAS[table].names) & set(schema.names)
    return sorted(known - (texts - kept))


_TRIAL_TEXTS = frozenset({"arm", "model", "method", "workload", "topology", "spec_json", "env_json"})


def _faults(rows: pa.Table, schema: pa.Schema, table: Table, attempt: str | None) -> Iterator[str]:
    yield from _column_faults(schema, table)
    if table == "trials" and attempt is not None and len(rows) != 1:
        yield f"has {len(rows)} rows instead of one"
    if attempt is not None:
        yield from _identity_faults(rows, attempt)
    for field in SCHEMAS[table]:
        if field.name in rows.schema.names:
            yield from _value_faults(rows[field.name], field, table)
    keys = [key for key in _KEYS.get(table, ()) if key in schema.names]
    if attempt is None and (keys or table == "trials"):
        keys = ["trial_id", "attempt", *keys]
    if keys and set(keys) <= set(rows.schema.names) and _distinct(rows.select(keys)) < len(rows):
        yield f"has two rows of the same {', '.join(keys)}"
    if table == "trials":
        yield from _document_faults(rows)


def _column_faults(schema: pa.Schema, table: Table) -> Iterator[str]:
    if len(set(schema.names)) < len(schema.names):
        yield f"has two columns {next(one for one in schema.names if schema.names.count(one) > 1)}"
    required = {field.name for field in SCHEMAS[table] if not field.nullable} - _LATER.get(table, frozenset())
    if lacking := sorted(required - set(schema.names)):
        yield f"has no column {', '.join(lacking)}"
    for field in SCHEMAS[table]:
        if field.name in schema.names:
            found = schema.field(field.name).type
            if found != field.type and not (field.nullable and pa.types.is_null(found)):
                yield f"column {field.name} is of type {found}; allowed: {field.type}"


def _identity_faults(rows: pa.Table, name: str) -> Iterator[str]:
    columns = [pc.unique(rows[key]).to_pylist() for key in ("trial_id", "attempt")]
    others = sorted({f"{trial_id}-{attempt}" for trial_id in columns[0] for attempt in columns[1]} - {name})
    if others:
        yield f"holds rows of {others[0]}"


def _distinct(rows: pa.Table) -> int:
    """Return the number of different rows."""
    if len(rows) > _FEW_ROWS:
        return len(rows.group_by(rows.schema.names).aggregate([]))
    return len(set(zip(*(column.to_pylist() for column in rows.columns), strict=True)))


def _value_faults(column: pa.ChunkedArray, field: pa.Field, table: Table) -> Iterator[str]:
    if column.null_count and not field.nullable:
        yield f"row {pc.index(pc.is_null(column), True).as_py() + 1}: {field.name} is null; allowed: a value"
    if len(column) == column.null_count:
        return
    for holds, allowed in _conditions(column, field.name, _choices(table, field.name)):
        if not pc.all(holds).as_py():
            row = pc.index(holds, False).as_py()
            value = column[row].as_py() if field.type != pa.timestamp("us", tz="UTC") else column[row].value
            yield f"row {row + 1}: {field.name} is {shown(value)}; allowed: {allowed}"


def _conditions(
    column: pa.ChunkedArray, name: str, choices: tuple[str, ...] | None
) -> Iterator[tuple[pa.ChunkedArray, str]]:
    """Return the condition that each value must meet, and its description in words."""
    is_time = name.endswith("_s") or name == "seconds"
    if choices is not None:
        yield pc.or_(pc.is_in(column, pa.array(choices)), pc.is_null(column)), ", ".join(choices)
    elif pa.types.is_timestamp(column.type):
        since = column.cast(pa.int64())
        yield pc.and_(pc.greater_equal(since, 0), pc.less(since, _MOST_US)), "microseconds from 1970 to 9999"
    elif pa.types.is_integer(column.type):
        least = 1 if name in _ABOVE_0 else 0
        yield pc.greater_equal(column, least), f"{least} or more"
    elif pa.types.is_floating(column.type):
        # NaN is unequal to everything, so it fails each of these comparisons.
        if is_time and name in _ABOVE_0:
            yield pc.and_(pc.greater(column, 0), pc.less(column, _MOST_S)), "seconds above 0 and below 1e9"
        elif is_time:
            yield pc.and_(pc.greater_equal(column, 0), pc.less(column, _MOST_S)), "seconds, from 0 to below 1e9"
        elif name.endswith("_j"):
            yield pc.and_(pc.greater_equal(column, 0), pc.is_finite(column)), "joules, 0 or more"
        elif name in _RATES:
            inside = pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, 1 + _ROUNDING))
            yield inside, "0 to 1"
        else:
            yield pc.is_finite(column), "finite numbers"


@functools.cache
def _choices(table: Table, column: str) -> tuple[str, ...] | None:
    """Return the values that a column may hold if there are few; None if it may hold any of its type."""
    hint = typing.get_type_hints(RECORDS[table])[column]
    for one in (hint, *typing.get_args(hint)):
        if typing.get_origin(one) is typing.Literal:
            return typing.get_args(one)
    return None


def _document_faults(rows: pa.Table) -> Iterator[str]:
    """Return the faults of documents in ``trials``: each spec must be a trial's, and that of its row."""
    known = set(rows.schema.names)
    if {"spec_json", *_SPEC_COLUMNS} <= known:
        for row in rows.select(["spec_json", *_SPEC_COLUMNS]).to_pylist():
            for document in _documents(row["spec_json"], "spec_json"):
                yield from [document] if isinstance(document, str) else _spec_faults(document, row)
    if "env_json" in known:
        for text in pc.unique(rows["env_json"]).to_pylist():  # one per machine, not per trial
            for document in _documents(text, "env_json"):
                yield from [document] if isinstance(document, str) else _environment_faults(document)


def _documents(text: str, column: str) -> Iterator[dict[str, object] | str]:
    """Return the JSON object in a text, or the fault of the text."""
    try:
        document = parse_json(text)
    except ValueError as error:
        yield f"{column} is {shown(text)}: {error}; allowed: one JSON object"
        return
    yield document if isinstance(document, dict) else f"{column} is {shown(text)}; allowed: one JSON object"


def _spec_faults(spec: dict[str, object], row: dict[str, object]) -> Iterator[str]:
    workload = spec.get("workload")
    if not isinstance(workload, dict):
        yield f"spec_json: workload is {shown(workload)}; allowed: an object"
        return
    stated = {**spec, "workload": workload.get("name")}
    for column in _SPEC_COLUMNS:
        if column in _LATER_FIELDS and column not in stated:
            continue
        given = stated.get(column)
        if type(given) is not type(row[column]) or given != row[column]:
            yield f"spec_json: {column} is {shown(given)}; allowed: {shown(row[column])}, as in the column {column}"
    for field in (parameters_key(str(row["method"])), "team"):
        if not isinstance(spec.get(field), dict | None):
            yield f"spec_json: {field} is {shown(spec[field])}; allowed: an object or null"
    for record, fields in ((spec, ("batch_size", "shards", "max_new_tokens")), (workload, _COUNTS)):
        for field in fields:
            value = record.get(field)
            if value is not None and (type(value) is not int or value < 0):
                yield f"spec_json: {field} is {shown(value)}; allowed: 0 or more"
    with contextlib.suppress(UnknownWorkloadError):  # a plug-in's workload that is not installed here
        for field in find_workload(str(workload["name"])).shown_fields:
            if field not in workload:
                yield f"spec_json: workload.{field} is missing"


_SPEC_COLUMNS = ("workload", "method", "model", "topology", "agents", "rounds", "seed")
"""Columns of ``trials`` that repeat a field of the spec."""

_LATER_FIELDS = ("topology", "rounds")
"""Trial fields that the first versions did not have."""

_COUNTS = ("limit", "repeats", "anchors", "tokens")


def _environment_faults(environment: dict[str, object]) -> Iterator[str]:
    kinds: dict[str, tuple[type, str]] = {
        "packages": (dict, "an object of versions"),
        "gpus": (list, "a list of names"),
        "threads": (int, "a number"),
        "memory_bytes": (int, "a number"),
        "claims_sha256": (str, "a hash"),
    }
    for key, (kind, allowed) in kinds.items():
        value = environment.get(key)
        if value is not None and not isinstance(value, kind):
            yield f"env_json: {key} is {shown(value)}; allowed: {allowed}"
    gpus = environment.get("gpus")
    if isinstance(gpus, list) and not all(isinstance(name, str) for name in gpus):
        yield f"env_json: gpus is {shown(gpus)}; allowed: a list of names"
