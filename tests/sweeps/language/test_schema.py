"""The JSON Schema of sweep files, and the fields' documentation: what loads is valid, and mistakes are not."""

import json
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import sweeps
from sweeps.cli import app
from sweeps.language.field_docs import dotted_fields, settings, trial_fields
from sweeps.language.fields import SETTINGS
from sweeps.language.schema import sweep_schema
from sweeps.language.strict_yaml import parse

FILES = sorted(Path(sweeps.__file__).parent.glob("**/*.yaml"))
FILES = [file for file in FILES if "cluster" not in file.parts]


@pytest.fixture(scope="module")
def validator():
    schema = sweep_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_shipped_files_are_valid(validator, file):
    """Catches an entry that the language takes and editors would mark as wrong."""
    errors = [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(parse(file.read_text()))]
    assert errors == []


WRONG = {
    "no name": "agents: 3",
    "a misspelt key": "name: x\nagnets: 3",
    "a misspelt parameter": "name: x\nkvcomm.gama: 0.3",
    "another type": "name: x\nagents: three",
    "an unknown choice": "name: x\ntopology: ring",
    "an unknown method": "name: x\nmethod: kvcom",
    "a field that another workload has": "name: x\nworkload: {name: recall, path: x.jsonl}",
    "a list for one value": "name: x\nagents: [2, 3]",
    "one value for a list": "name: x\ngrid: {agents: 2}",
    "an empty axis": "name: x\ngrid: {agents: []}",
    "a wrong value in an axis": "name: x\ngrid: {agents: [2, x]}",
    "a distribution that there is not": "name: x\nrandom: {samples: 2, fields: {agents: {normal: [0, 1]}}}",
    "a grid in a profile": "name: x\nprofiles: {a: {grid: {agents: [2]}}}",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_mistakes_are_found(validator, text):
    """Catches a schema that takes anything."""
    assert not validator.is_valid(parse(text))


def test_what_else_is_valid(validator):
    """Catches lists refused where a higher layer makes axes of them, and names of elsewhere."""
    for text in (
        "name: x\nextends: y.yaml\nagents: [2, 3]",
        "name: x\nprofiles: {a: {agents: [2, 3], replicas: 2}, b: {extends: a}}",
        "name: x\nmethod: mypkg.reuse:Twin\nworkload: mypkg.coin:Coin",
        "name: x\nkvcomm: {gamma: 0.1}\nmethod: kvcomm",
    ):
        assert list(validator.iter_errors(parse(text))) == []


def test_every_key_is_explained(validator):
    """Catches a field without documentation, which an editor would show bare."""
    properties, defs = validator.schema["properties"], validator.schema["$defs"]
    named = {field.name for field in trial_fields()} | {name for name, _, _ in dotted_fields()}
    assert {*SETTINGS, *named, "workload", "grid", "extends", "profiles"} <= properties.keys()
    for name, entry in properties.items():
        assert (entry if "$ref" not in entry else defs[entry["$ref"].removeprefix("#/$defs/")])["description"], name
    assert {field.name for field in settings()} == set(SETTINGS)


PLUG_IN = """
from dataclasses import dataclass
from kvcomm_core.methods.baseline_config import DenseConfig

@dataclass(frozen=True, slots=True, kw_only=True)
class Dilute(DenseConfig):
    strength: float = 0.5
    \"\"\"How much of it. 0 to 1.\"\"\"
"""


def test_plug_ins_of_a_sweep(tmp_path, monkeypatch):
    """Catches fields of a user's own method marked as wrong in the very file that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("diluting.py").write_text(PLUG_IN, encoding="utf-8")
    text = "name: x\nmethod: diluting:Dilute\ndilute.strength: 0.3\n"
    Path("sweep.yaml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["schema", "sweep.yaml"])
    assert (done.exit_code, done.stderr) == (0, "")
    schema = json.loads(done.stdout)
    assert schema["$defs"]["dilute.strength"]["description"] == "method dilute: How much of it. 0 to 1."
    assert jsonschema.Draft202012Validator(schema).is_valid(parse(text))
    assert not jsonschema.Draft202012Validator(schema).is_valid(parse(text.replace("strength", "strenght")))
    done = CliRunner().invoke(app, ["schema", "none.yaml"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "kvcomm: none.yaml: cannot be read: No such file or directory\n"
