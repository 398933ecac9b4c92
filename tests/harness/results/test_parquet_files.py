"""The store: whole files or none, and a record of what is finished."""

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import with_fidelity

from harness.results.arrow_schemas import SCHEMAS
from harness.results.measurements import AnchorRecord, KVStatistic, ProbeRecord
from harness.results.parameter_columns import parameter_schema
from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.results.sweep_folder import Attempts, read_attempts, read_records, read_trials, sweep_folders
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.probes import OffsetsSpec
from kvcomm_core.files import atomic_write

SPEC = TrialSpec()
NAME = f"{SPEC.trial_id}-1"


@pytest.fixture
def writer(tmp_path):
    writer = ResultsWriter(tmp_path, "s")
    yield writer
    writer.close()


def test_what_is_written_is_read_back(writer, make_result):
    """Catches columns swapped, dropped or changed in type between record and file."""
    result = make_result(SPEC)
    writer.write(result)
    names = SCHEMAS["trials"].names
    assert read_trials(writer.folder).select(names).to_pylist() == [{n: getattr(result.trial, n) for n in names}]
    turns = [{name: getattr(turn, name) for name in SCHEMAS["turns"].names} for turn in result.turns]
    assert read_records(writer.folder, "turns", [NAME]).to_pylist() == turns
    samples = [{name: getattr(sample, name) for name in SCHEMAS["samples"].names} for sample in result.samples]
    assert read_records(writer.folder, "samples", [NAME]).to_pylist() == samples


def test_files_have_the_explicit_schema(writer, make_result):
    """Catches a schema inferred from values: an all-null column would be of type null and clash later."""
    writer.write(make_result(SPEC, status="error"))
    trials = pa.unify_schemas([SCHEMAS["trials"], parameter_schema()])
    for table, schema in [("trials", trials), ("turns", SCHEMAS["turns"]), ("samples", SCHEMAS["samples"])]:
        assert pq.read_schema(writer.folder / table / f"{NAME}.parquet").equals(schema)


def test_fidelity_is_a_table_of_its_own(writer, make_result):
    """Catches columns swapped or inferred, and a file of no rows for attempts that were not checked."""
    reuse = TrialSpec(method="kvcomm")
    writer.write(make_result(SPEC))
    result = with_fidelity(make_result(reuse), lambda turn: 0.25 * turn.agent_index)
    writer.write(result)
    name = f"{reuse.trial_id}-1"
    (path,) = (writer.folder / "fidelity").iterdir()
    assert path.name == f"{name}.parquet"
    assert pq.read_schema(path).equals(SCHEMAS["fidelity"])
    rows = [{column: getattr(record, column) for column in SCHEMAS["fidelity"].names} for record in result.fidelity]
    assert read_records(writer.folder, "fidelity", [NAME, name]).to_pylist() == rows
    assert len(rows) == 2 * reuse.agents


def test_finished_needs_the_fidelity_file_only_where_turns_were_checked(writer, make_result):
    """Catches unchecked trials that are run again and again, and a checked one whose numbers were deleted."""
    reuse = TrialSpec(method="kvcomm")
    writer.write(make_result(SPEC))
    writer.write(with_fidelity(make_result(reuse), lambda turn: 0.5))
    whole = Attempts(last=1, finished=1)
    assert read_attempts(writer.folder) == {SPEC.trial_id: whole, reuse.trial_id: whole}
    (writer.folder / "fidelity" / f"{reuse.trial_id}-1.parquet").unlink()
    assert read_attempts(writer.folder) == {SPEC.trial_id: whole, reuse.trial_id: Attempts(last=1, finished=None)}


def test_trials_of_before_fidelity_are_read(writer, make_result):
    """Catches results of an earlier version, without the column or the folder, that count as not finished."""
    writer.write(make_result(SPEC))
    path = writer.folder / "trials" / f"{NAME}.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["kl_mean"]), path)
    (writer.folder / "fidelity").rmdir()
    assert read_attempts(writer.folder) == {SPEC.trial_id: Attempts(last=1, finished=1)}
    assert read_records(writer.folder, "fidelity", [NAME]).num_rows == 0


def test_trials_file_comes_last_and_nothing_is_left_over(writer, make_result, monkeypatch):
    """Catches a trial that counts as finished while its turns are not on disk yet."""
    order = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append(target.parent.name), replace(self, target)))
    writer.write(make_result(SPEC))
    assert order[-1] == "trials"
    assert sorted(order) == ["samples", "trials", "turns"]
    assert list((writer.folder / ".partial").iterdir()) == []


def test_a_crash_before_the_trials_file_leaves_no_trial(writer, make_result, monkeypatch):
    """Catches a reader that takes the turns of an attempt that never ended."""
    replace = Path.replace

    def crash(self, target):
        if target.parent.name == "trials":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(StoreError, match="No space left on device"):
        writer.write(make_result(SPEC))
    assert read_trials(writer.folder).num_rows == 0
    assert read_attempts(writer.folder) == {}
    monkeypatch.undo()
    writer.close()
    again = ResultsWriter(writer.folder.parent, "s")
    assert list((again.folder / ".partial").iterdir()) == []
    again.write(make_result(SPEC))
    assert read_records(again.folder, "turns", [NAME]).num_rows == 6
    again.close()


def test_finished_means_ok_and_whole(writer, make_result):
    """Catches a failed trial, or one whose file was deleted, that would never be run again."""
    writer.write(make_result(SPEC, status="killed", attempt=1))
    assert read_attempts(writer.folder) == {SPEC.trial_id: Attempts(last=1, finished=None)}
    writer.write(make_result(SPEC, attempt=2))
    assert read_attempts(writer.folder) == {SPEC.trial_id: Attempts(last=2, finished=2)}
    (writer.folder / "turns" / f"{SPEC.trial_id}-2.parquet").unlink()
    assert read_attempts(writer.folder) == {SPEC.trial_id: Attempts(last=2, finished=None)}
    writer.write(make_result(SPEC, attempt=10))
    writer.write(make_result(SPEC, status="error", attempt=11))
    assert read_attempts(writer.folder) == {SPEC.trial_id: Attempts(last=11, finished=10)}


def test_files_of_another_version_are_read(writer, make_result):
    """Catches pyarrow dropping a new column, or failing on a file that lacks one."""
    other = TrialSpec(seed=1)
    writer.write(make_result(SPEC))
    writer.write(make_result(other))
    path = writer.folder / "trials" / f"{other.trial_id}-1.parquet"
    table = pq.read_table(path, partitioning=None).drop_columns(["git_dirty"])
    pq.write_table(table.append_column("joules", pa.array([3.5])), path)
    rows = {row["trial_id"]: row for row in read_trials(writer.folder).to_pylist()}
    assert rows[other.trial_id]["joules"] == 3.5
    assert rows[SPEC.trial_id]["joules"] is None
    assert rows[other.trial_id]["git_dirty"] is None


def test_probes_have_a_file_where_there_are_any(writer, make_result):
    """Catches a micro-benchmark that counts as finished without what it measured, and empty files for all others."""
    writer.write(make_result(SPEC))
    assert list((writer.folder / "probes").iterdir()) == []
    spec = TrialSpec(workload=BlendSpec(), method="kvcomm")
    probe = ProbeRecord(trial_id=spec.trial_id, attempt=1, repeat=0, step="copy", seconds=0.5, bytes_read=7)
    writer.write(dataclasses.replace(make_result(spec), turns=[], samples=[], probes=[probe]))
    name = f"{spec.trial_id}-1"
    assert read_records(writer.folder, "probes", [name, NAME]).to_pylist() == [dataclasses.asdict(probe)]
    assert {attempt.finished for attempt in read_attempts(writer.folder).values()} == {1}
    (writer.folder / "probes" / f"{name}.parquet").unlink()
    attempts = read_attempts(writer.folder)
    assert (attempts[spec.trial_id].finished, attempts[SPEC.trial_id].finished) == (None, 1)


def test_statistics_and_anchors_have_files_where_there_are_any(writer, make_result):
    """Catches a probe that counts as finished without what it found, a trial whose anchors are lost, and a trial of an
    earlier version, which has no anchors on disk, run again."""
    probe, kvcomm, old = (
        TrialSpec(workload=OffsetsSpec()),
        TrialSpec(method="kvcomm"),
        TrialSpec(method="kvcomm", seed=1),
    )
    number = KVStatistic(
        trial_id=probe.trial_id, attempt=1, probe="offsets", measure="offset", statistic="q50", value=None, n=7,
        part="keys", dimension=3,
    )  # fmt: skip
    anchor = AnchorRecord(
        trial_id=kvcomm.trial_id, attempt=1, placeholder="user_question", shard=0, age_rank=0, tokens=9,
        readers="1 2", activations=4, weight=1.5,
    )  # fmt: skip
    writer.write(dataclasses.replace(make_result(probe), turns=[], samples=[], kv_statistics=[number]))
    with_pools = make_result(kvcomm)
    row = dataclasses.replace(with_pools.trial, anchors_at_end=1)
    writer.write(dataclasses.replace(with_pools, trial=row, anchors=[anchor]))
    writer.write(make_result(old))
    path = writer.folder / "trials" / f"{old.trial_id}-1.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["anchors_at_end"]), path)

    names = [f"{spec.trial_id}-1" for spec in (probe, kvcomm, old)]
    assert read_records(writer.folder, "kv_statistics", names).to_pylist() == [dataclasses.asdict(number)]
    assert read_records(writer.folder, "anchors", names).to_pylist() == [dataclasses.asdict(anchor)]
    assert {attempt.finished for attempt in read_attempts(writer.folder).values()} == {1}
    (writer.folder / "kv_statistics" / f"{names[0]}.parquet").unlink()
    (writer.folder / "anchors" / f"{names[1]}.parquet").unlink()
    attempts = read_attempts(writer.folder)
    assert [attempts[spec.trial_id].finished for spec in (probe, kvcomm, old)] == [None, None, 1]


def test_a_torn_file_is_named(writer, make_result):
    """Catches a traceback that leaves the user to find the one bad file among thousands."""
    writer.write(make_result(SPEC))
    path = writer.folder / "trials" / f"{NAME}.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StoreError, match=f"{NAME}.parquet cannot be read"):
        read_trials(writer.folder)


def test_folder_that_cannot_be_written(tmp_path):
    """Catches a sweep that computes for hours and then cannot keep the result (a file stands in the way)."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        ResultsWriter(tmp_path / "file" / "results", "s")


def test_one_writer_at_a_time(tmp_path, make_result):
    """Catches two runs of one sweep that overwrite each other's attempts."""
    first = ResultsWriter(tmp_path, "s")
    with pytest.raises(StoreError, match="in use by another"):
        ResultsWriter(tmp_path, "s")
    first.close()
    ResultsWriter(tmp_path, "s").close()


def test_folders_that_cannot_be_listed(tmp_path, monkeypatch):
    """Catches results of another user that seem not to be there, so that every trial would run again."""
    for table in ("trials", "turns"):
        (tmp_path / "s" / table).mkdir(parents=True)

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(StoreError, match=r"s/trials cannot be read: Permission denied$"):
        read_attempts(tmp_path / "s")
    with pytest.raises(StoreError, match=r"^\S+ cannot be read: Permission denied$"):
        sweep_folders(tmp_path)


def test_sweep_folders(tmp_path):
    """Catches `show RESULTS/<sweep>` not being understood, and an empty table for a mistyped folder."""
    for name in ("b", "a"):
        ResultsWriter(tmp_path, name).close()
    assert sweep_folders(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert sweep_folders(tmp_path / "b") == [tmp_path / "b"]
    with pytest.raises(StoreError, match="holds no results"):
        sweep_folders(tmp_path / "c")
    assert read_trials(tmp_path / "c").num_rows == 0


def test_everything_is_synced(writer, make_result, monkeypatch):
    """Catches a rename that reaches the disk before the data: three files and three folders are fsynced."""
    synced = []
    monkeypatch.setattr(atomic_write.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_mode >> 12))
    writer.write(make_result(SPEC))
    regular, folder = 0o10, 0o04
    assert synced == [regular, folder] * 3


READS = """
import os, sys
from pathlib import Path

from harness.results.parquet_files import read_file
from harness.workloads.sources import read_table

before = os.listdir("/proc/self/task")
read_file(Path(sys.argv[1]), "turns")
read_table(Path(sys.argv[1]))
print(len(os.listdir("/proc/self/task")) - len(before))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux, which lists a process's threads")
def test_reading_leaves_no_thread_behind(writer, make_result):
    """Catches threads of Arrow that still hold a Python file when the process ends: it then aborts now and then, with
    "terminate called without an active exception"."""
    writer.write(make_result(SPEC))
    command = [sys.executable, "-c", READS, str(writer.folder / "turns" / f"{NAME}.parquet")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["0"]
