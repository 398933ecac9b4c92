"""A JSON Schema of sweep files, for editors: names, types, choices, and the fields' own documentation.

It is made of the same dataclasses that read a sweep file. It knows less than they do: ranges, and fields that exclude
each other, are checked by ``kvcomm plan`` alone.
"""

import dataclasses
from typing import Any

from pydantic import TypeAdapter

from harness.extensions import announced
from harness.methods import BUILT_IN, GROUP
from harness.topology import BUILT_IN as TOPOLOGIES
from sweeps.language.field_docs import FieldDoc, documented, dotted_fields, settings, trial_fields, workloads
from sweeps.language.fields import method_parameters

Schema = dict[str, Any]

ELSEWHERE = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", "description": "module:Class"}
_RANGE = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_OTHER_PROFILE = {"type": "string", "description": "Another profile of the file, which this one changes."}


def sweep_schema() -> Schema:
    """Return the schema of a sweep file, with the fields of the plug-ins that have been imported."""
    values = _trial_values()
    known = {field.name: _described(field) for field in settings()}
    refs = {name: {"$ref": f"#/$defs/{name}"} for name in values}
    lists = {name: {"type": "array", "items": ref, "minItems": 1} for name, ref in refs.items()}
    texts = {name: {"description": value["description"]} for name, value in values.items()}
    defs = {
        **values,
        **{f"axis of {name}": texts[name] | lists[name] for name in values},
        **{f"one or several of {name}": texts[name] | {"anyOf": [refs[name], lists[name]]} for name in values},
    }
    either = {name: {"$ref": f"#/$defs/one or several of {name}"} for name in values}
    axes = {name: {"$ref": f"#/$defs/axis of {name}"} for name in values}
    sections = _sections(refs, axes)
    in_profiles = {name: section for name, section in sections.items() if name != "grid"}
    no_lists = {name: {"not": {"type": "array"}} for name in values}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep file of kvcomm",
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            **known,
            **either,
            **sections,
            "extends": {"type": "string", "description": "Another sweep file, relative to this one."},
            "profiles": {
                "description": "Named sets of entries that replace the file's own; --profile NAME chooses one.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": _closed({**known, **either, **in_profiles, "extends": _OTHER_PROFILE}),
            },
        },
        "if": {"not": {"required": ["extends"]}},
        "then": {"properties": no_lists},  # several values of a field stand under grid
        "$defs": {**defs, "distribution": _distribution()},
    }


def _trial_values() -> dict[str, Schema]:
    """Return the schema of one value of each trial field, by name."""
    values = {
        field.name: {"type": "string", "description": field.text} if field.name == "team" else _described(field)
        for field in trial_fields()
    }
    names = [*BUILT_IN, *announced(GROUP)]
    values["method"] = {
        "description": values["method"]["description"],
        "default": values["method"]["default"],
        "anyOf": [{"enum": names}, ELSEWHERE],
    }
    values["workload"] = _workload()
    values["topology"] = {
        "description": values["topology"]["description"],
        "anyOf": [{"enum": [*TOPOLOGIES, *announced("topologies")]}, ELSEWHERE],
    }
    for name, owner, field in dotted_fields():
        one = _described(field)
        if name not in values:
            values[name] = one
            values[name]["description"] = f"{owner}: {one['description']}"
            continue
        before = values[name]
        if one["description"] not in before["description"]:
            before["description"] += f" {owner}: {one['description']}"
        before.pop("default", None)
        values[name] = _union(before, one)
    for key, record in method_parameters().items():
        values[key] = {
            "description": f"The parameters of the method {key}.",
            **_closed({field.name: _described(field) for field in documented(record)}),
        }
    return values


def _workload() -> Schema:
    by_name = {name: documented(record) for name, record in workloads().items()}
    mappings = [
        _closed({field.name: {"const": name} if field.name == "name" else _described(field) for field in fields})
        | {"required": ["name", *(field.name for field in fields if _must_be_given(field) and field.name != "name")]}
        for name, fields in by_name.items()
    ]
    elsewhere = {"type": "object", "required": ["name"], "properties": {"name": ELSEWHERE}}
    return {
        "description": "The source of the items: a name, or a mapping with the workload's fields.",
        "anyOf": [{"enum": [*by_name]}, ELSEWHERE, *mappings, elsewhere],
    }


def _sections(refs: Schema, axes: Schema) -> dict[str, Schema]:
    seed = {"type": "integer", "minimum": 0}
    fields = {**_closed({name: {"$ref": "#/$defs/distribution"} for name in refs}), "minProperties": 1}
    samples = {"type": "integer", "minimum": 1}
    rows = {"type": "array", "items": _closed(refs)}
    return {
        "grid": {
            "description": "Every field is an axis; the trials are all combinations.",
            **_closed(axes),
            "minProperties": 1,
        },
        "zip": {
            "description": "Fields with lists of one length, which move together.",
            **_closed(axes),
            "minProperties": 1,
        },
        "list": {"description": "Combinations one by one.", **rows, "minItems": 1},
        "random": {
            "description": "Fields drawn at random.",
            **_closed({"samples": samples, "seed": seed, "fields": fields}),
            "required": ["samples", "fields"],
        },
        "repeats": {"description": "Number of seeds for each combination.", "type": "integer", "minimum": 1},
        "exclude": {"description": "A combination that matches all entries of one mapping is dropped.", **rows},
    }


def _distribution() -> Schema:
    kinds = dict.fromkeys(("uniform", "log_uniform", "int"), _RANGE)
    return _closed({**kinds, "choice": {"type": "array", "minItems": 1}}) | {"minProperties": 1, "maxProperties": 1}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _described(field: FieldDoc) -> Schema:
    """Return the schema of a field, with its documentation and default."""
    schema = {key: value for key, value in TypeAdapter(field.annotation).json_schema().items() if key != "title"}
    schema["description"] = field.text
    if isinstance(field.default, str | int | float | bool | None):
        schema["default"] = field.default
    return schema


def _must_be_given(field: FieldDoc) -> bool:
    return field.default is dataclasses.MISSING


def _union(a: Schema, b: Schema) -> Schema:
    """Return the schema of values that are one of two, described as the first."""
    types = [{key: value for key, value in one.items() if key not in ("description", "default")} for one in (a, b)]
    alternatives = types[0].get("anyOf", [types[0]])
    alternatives += [one for one in types[1].get("anyOf", [types[1]]) if one not in alternatives]
    return {"description": a["description"], **(alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives})}
