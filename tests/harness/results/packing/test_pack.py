"""Copies of results to share."""

import hashlib
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.results import results_writer
from harness.results.packing.crate import CRATE, crate_of
from harness.results.packing.pack import pack
from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.results.sweep_folder import names_of, read_attempts, read_records, read_trials
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec

SPECS = [TrialSpec(seed=seed) for seed in range(5)]


@pytest.fixture
def results(tmp_path, make_result, monkeypatch):
    """Five trials: the first failed and ran again, the last only failed. Some are in one file, some alone."""
    monkeypatch.setattr(results_writer, "_SHARE", 2)
    writer = ResultsWriter(tmp_path / "results", "s")
    writer.write(_failed(make_result(SPECS[0])))
    writer.write(make_result(SPECS[0], attempt=2))
    for spec in SPECS[1:4]:
        writer.write(make_result(spec))
    writer.write(_failed(make_result(SPECS[4])))
    writer.write_text("sweep.yaml", "name: s\n")
    writer.close()
    return tmp_path / "results"


def _failed(result):
    return TrialResult(replace(result.trial, status="error", error="it broke"))


def test_what_counts_is_copied(results, tmp_path):
    """Catches attempts that do not count, failures that vanish, other rows or another order of them, several files per
    table, a copy that the readers do not accept, and one that takes the text of prompts along."""
    packed = pack(results, tmp_path / "copy")
    source, copy = results / "s", tmp_path / "copy" / "s"
    names = {f"{SPECS[0].trial_id}-2", *(f"{spec.trial_id}-1" for spec in SPECS[1:])}
    assert set(names_of(read_trials(copy))) == names
    finished = {trial_id for trial_id, attempt in read_attempts(copy).items() if attempt.finished is not None}
    assert finished == {spec.trial_id for spec in SPECS[:4]}
    for table in ("turns", "samples"):
        order = names_of(read_trials(copy))
        assert read_records(copy, table, order).equals(read_records(source, table, order))
        assert [path.name for path in (copy / table).iterdir()] == ["part-000001.parquet"]
    assert [(one.sweep, one.trials) for one in packed] == [("s", 5)]
    assert packed[0].nbytes == sum(path.stat().st_size for path in copy.rglob("*.*"))
    assert (copy / "sweep.yaml").read_text() == "name: s\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "results"]


def test_texts_can_stay_behind(results, tmp_path):
    """Catches a question's words in any column of a copy that should have none, and another column that goes with
    them."""
    marked = "Vienna is the answer to nothing here"
    texts = {"turns": ["prompt_text", "output_text", "tool_text"], "samples": ["answer_text"]}
    for table, names in texts.items():
        for path in (results / "s" / table).glob("*.parquet"):
            rows = pq.read_table(path, partitioning=None)
            for name in names:
                index = rows.schema.get_field_index(name)
                words = pa.array([marked] * len(rows), pa.string())
                rows = rows.set_column(index, rows.schema.field(index), words)
            pq.write_table(rows, path)
    pack(results, tmp_path / "whole")
    pack(results, tmp_path / "without", without_texts=True)
    for table, names in texts.items():
        whole, without = (
            pq.read_table(tmp_path / one / "s" / table, partitioning=None) for one in ("whole", "without")
        )
        for name in names:
            assert set(whole[name].to_pylist()) == {marked}
            assert set(without[name].to_pylist()) <= {None, ""}
        assert without.drop_columns(names).equals(whole.drop_columns(names))
        assert marked.encode() not in (tmp_path / "without" / "s" / table / "part-000001.parquet").read_bytes()
        read_records(tmp_path / "without" / "s", table, names_of(read_trials(tmp_path / "without" / "s")))


def test_the_crate_names_all_files_and_runs(results, tmp_path):
    """Catches a file that the crate does not list, a hash of other bytes, a reference to nothing, and runs of two
    commits that become one."""
    pack(results, tmp_path / "copy")
    crate = json.loads((tmp_path / "copy" / CRATE).read_text())
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and path.name != CRATE]
    listed = {name: entity for name, entity in entities.items() if entity["@type"] == "File"}
    assert set(listed) == {path.relative_to(tmp_path / "copy").as_posix() for path in files}
    for name, entity in listed.items():
        content = (tmp_path / "copy" / name).read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert int(entity["contentSize"]) == len(content)
    assert all(reference in entities for entity in crate["@graph"] for reference in _references(entity))
    root = entities["./"]
    assert {part["@id"] for part in root["hasPart"]} == set(listed)
    [run] = [entities[one["@id"]] for one in root["mentions"]]
    assert run["name"] == "5 trials of the sweep s"
    rows = read_trials(tmp_path / "copy" / "s")
    commits = ["one", "one", "two", "two", "two"]
    of_two = rows.set_column(rows.schema.get_field_index("git_commit"), "git_commit", pa.array(commits))
    [*_, first, second] = [
        one for one in json.loads(crate_of(tmp_path / "copy", {"s": of_two}))["@graph"] if "object" in one
    ]
    assert [first["name"], second["name"]] == ["2 trials of the sweep s", "3 trials of the sweep s"]
    assert second["instrument"] == {"@id": "#kvcomm-two"}


def _references(value):
    if isinstance(value, dict):
        own = [value["@id"]] if set(value) == {"@id"} and not value["@id"].startswith("http") else []
        return own + [one for part in value.values() for one in _references(part)]
    return [one for part in value for one in _references(part)] if isinstance(value, list) else []


def test_nothing_is_half_written(results, tmp_path):
    """Catches a copy over an existing folder, and one left in part after a damaged file."""
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="there exists; allowed: a folder that does not exist yet"):
        pack(results, tmp_path / "there")
    next((results / "s" / "samples").glob("*.parquet")).write_bytes(b"torn")
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        pack(results, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
