"""Columns of ``trials`` for the fields of a spec: they say what ``spec_json`` says, and null where a field does not
apply."""

import dataclasses
import json
import typing

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import twin_method
from made_up import write_results

from harness.cells import flatten
from harness.methods import BUILT_IN, find_method
from harness.results.arrow_schemas import SCHEMAS, columns_of
from harness.results.parameter_columns import parameter_schema, with_parameters
from harness.results.read_back import read_rows
from harness.results.sweep_folder import read_trials
from harness.results.trial_result import TrialRow
from harness.spec import TrialSpec
from harness.workloads import built_in
from harness.workloads.ttft import TtftSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
KVCOMM = TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=0.1, top_k=3), agents=2)


def table_of(row):
    return pa.Table.from_pydict(columns_of(TrialRow, [row]), schema=SCHEMAS["trials"])


def test_each_parameter_is_a_column(tmp_path, make_result):
    """Catches a value of another trial, a parameter of another method that is 0, and a column that is left out."""
    write_results(tmp_path, make_result(DENSE), make_result(KVCOMM))
    frame = pd.read_parquet(tmp_path / "s" / "trials").set_index("method")
    assert frame.loc["kvcomm", ["kvcomm.gamma", "kvcomm.top_k", "kvcomm.recompute"]].tolist() == [0.1, 3, "none"]
    assert frame.loc["dense", ["kvcomm.gamma", "kvcomm.top_k", "kvcomm.recompute"]].isna().all()
    assert frame["workload.facts"].tolist() == [3, 3]
    assert frame[["workload.prefix_tokens", "epic.first", "team"]].isna().all(axis=None)
    for _, row in frame.reset_index().iterrows():
        flat = flatten(json.loads(row["spec_json"]))
        flat.pop("prompts")  # no field: the digest of revised prompts, None here
        said = {"workload.name": row["workload"], **{key: row[key] for key in flat if key != "workload.name"}}
        assert {key: None if pd.isna(value) else value for key, value in said.items()} == flat


def test_types_hold_whatever_the_trial(make_result):
    """Catches a column that is of type null in the files of one method, which no reader could join with the others."""
    timing = TrialSpec(workload=TtftSpec(), method="kvcomm", agents=2)
    dense, kvcomm, other = (
        with_parameters(table_of(make_result(spec).trial)).schema for spec in (DENSE, KVCOMM, timing)
    )
    assert dense == kvcomm == other
    assert parameter_schema().field("kvcomm.gamma").type == pa.float64()
    assert parameter_schema().field("kvcomm.top_k").type == pa.int64()


def test_a_name_has_one_type():
    """Catches two workloads whose fields share a name but not a type: they share a column, too."""
    seen = {}
    records = [*built_in().values(), *(find_method(name) for name in BUILT_IN)]
    for record in records:
        owner = "workload" if record in built_in().values() else record.__name__
        for field in dataclasses.fields(record):
            hint = typing.get_type_hints(record)[field.name]
            plain = {arg for arg in typing.get_args(hint) or (hint,) if arg is not type(None)}
            kind = {str if not isinstance(one, type) else one for one in plain}
            if field.name != "name":
                assert seen.setdefault((owner, field.name), kind) == kind, (owner, field.name)


def test_a_plug_in_has_columns_too(tmp_path, make_result):
    """Catches a method of elsewhere whose parameters can only be found in JSON."""
    spec = TrialSpec(method="twin_method:Twin", parameters=twin_method.Twin(alpha=0.25), agents=2)
    write_results(tmp_path, make_result(spec), make_result(DENSE))
    assert read_trials(tmp_path / "s").column("twin.alpha").to_pylist().count(0.25) == 1


def test_earlier_files_are_read_as_before(tmp_path, make_result):
    """Catches a reader that needs the columns: results from before them stay."""
    write_results(tmp_path, make_result(DENSE), make_result(KVCOMM))
    path = tmp_path / "s" / "trials" / f"{DENSE.trial_id}-1.parquet"
    before = pq.read_table(path)
    names = [name for name in before.schema.names if name not in parameter_schema().names]
    pq.write_table(before.select(names), path)
    assert read_trials(tmp_path / "s").column("kvcomm.gamma").to_pylist().count(None) == 1
    assert sorted(row.method for row in read_rows(tmp_path / "s")) == ["dense", "kvcomm"]


@pytest.mark.parametrize("value", ["x", [1]])
def test_a_wrong_annotation_costs_no_result(value, make_result):
    """Catches a plug-in's value of another type than its field says, for which a trial cannot be written."""
    spec = json.loads(make_result(KVCOMM).trial.spec_json)
    spec["kvcomm"]["gamma"] = value
    row = dataclasses.replace(make_result(KVCOMM).trial, spec_json=json.dumps(spec))
    table = with_parameters(table_of(row))
    assert table.column("kvcomm.gamma").to_pylist() == [None]
