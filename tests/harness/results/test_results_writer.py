"""Many attempts in few files: what readers see at any moment, after a kill at any step, and after damage."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import twin_method

from harness.results import results_writer, sweep_folder
from harness.results.arrow_schemas import SCHEMAS
from harness.results.damaged_files import find_damaged, set_aside
from harness.results.parquet_files import StoreError
from harness.results.read_back import AttemptReader, read_attempt, read_results
from harness.results.results_writer import ResultsWriter
from harness.results.sweep_folder import Attempts, read_attempts, read_records, read_trials
from harness.results.uri_mirror import Mirror
from harness.results.waiting_files import waiting_names, waiting_path
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

SPECS = [TrialSpec(seed=seed) for seed in range(12)]
NAMES = [f"{spec.trial_id}-1" for spec in SPECS]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Let attempts wait from the second on, in parts of at most four."""
    monkeypatch.setattr(results_writer, "_SHARE", 1)
    monkeypatch.setattr(results_writer, "_MOST", 4)


@pytest.fixture(scope="module")
def results(make_result):
    return [make_result(spec) for spec in SPECS]


def written(folder, results, close=True):
    writer = ResultsWriter(folder, "s")
    for result in results:
        writer.write(result)
    if close:
        writer.close()
    return folder / "s"


def seen_by_a_glob(folder):
    """How often each attempt's rows are in the files of each table, for somebody who globs them."""
    seen = {}
    for table in ("trials", "turns", "samples"):
        seen[table] = Counter()
        for path in (folder / table).glob("*.parquet"):
            for row in pq.read_table(path, columns=["trial_id", "attempt"], partitioning=None).to_pylist():
                seen[table][f"{row['trial_id']}-{row['attempt']}"] += 1
    return seen


def test_few_files_hold_what_many_held(tmp_path, results):
    """Catches rows that are lost, doubled, reordered or mixed up between attempts in files of several."""
    folder = written(tmp_path, results)
    files = sorted(path.stem for path in (folder / "trials").iterdir())
    assert len(files) == 5, files  # one alone, one more, then two, four and four
    assert waiting_names(folder) == []
    assert seen_by_a_glob(folder) == {
        "trials": dict.fromkeys(NAMES, 1),
        "turns": dict.fromkeys(NAMES, 6),
        "samples": dict.fromkeys(NAMES, 2),
    }
    assert {result.trial.trial_id: result for result in read_results(folder, NAMES)} == {
        result.trial.trial_id: result for result in results
    }
    assert read_attempt(folder, SPECS[7].trial_id, 1) == results[7]
    order = [NAMES[7], NAMES[0], NAMES[9]]
    turns = [
        {name: getattr(turn, name) for name in SCHEMAS["turns"].names} for i in (7, 0, 9) for turn in results[i].turns
    ]
    assert read_records(folder, "turns", order).to_pylist() == turns
    narrow = read_records(folder, "turns", order, columns=["ttft_s", "mode"]).to_pylist()
    assert narrow == [{"ttft_s": turn["ttft_s"], "mode": turn["mode"]} for turn in turns]
    assert find_damaged(folder) == []


def test_attempts_that_wait_count(tmp_path, results):
    """Catches an attempt that no reader knows until its file is full, or whose trial runs again after a kill."""
    folder = written(tmp_path, results[:5], close=False)
    assert len(waiting_names(folder)) == 1
    assert read_attempts(folder) == {spec.trial_id: Attempts(1, 1) for spec in SPECS[:5]}
    assert read_records(folder, "turns", NAMES[4:5]).num_rows == 6
    assert read_attempt(folder, SPECS[4].trial_id, 1) == results[4]


class KilledError(BaseException):
    """The process ends here."""


STEPS = ("replace", "unlink")


@pytest.mark.slow
@pytest.mark.parametrize("survived", [2, 4, *range(7, 14), 18, 20, 22])
def test_a_kill_at_any_step_loses_nothing_and_shows_nothing_twice(tmp_path, results, monkeypatch, survived):
    """Catches an attempt that is lost, or that a glob sees twice, when the process is killed at any of its renames and
    removals, or when the next run is killed at its first one."""
    acknowledged = []
    left = [survived]

    def limit(name):
        real = getattr(Path, name)

        def step(self, *arguments, **options):
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            return real(self, *arguments, **options)

        monkeypatch.setattr(Path, name, step)

    writer = ResultsWriter(tmp_path, "s")
    for name in STEPS:
        limit(name)
    with pytest.raises(KilledError):
        write_all(writer, results, acknowledged)
    writer._lock.close()
    check(writer.folder, acknowledged)
    left[0] = 1
    try:
        ResultsWriter(tmp_path, "s").close()
    except KilledError:
        check(writer.folder, acknowledged)
    monkeypatch.undo()
    again = ResultsWriter(tmp_path, "s")
    check(again.folder, acknowledged)
    known = read_attempts(again.folder)
    for result in results:
        if result.trial.trial_id not in known:
            again.write(result)
    again.close()
    check(again.folder, NAMES)
    assert seen_by_a_glob(again.folder)["trials"] == dict.fromkeys(NAMES, 1)


@pytest.mark.slow
@pytest.mark.parametrize("survived", range(26))
def test_ctrl_c_at_any_step_loses_nothing_and_shows_nothing_twice(tmp_path, results, monkeypatch, survived):
    """Catches attempts that are in the tables when Ctrl-C comes, and enter them again when the writer is closed."""
    acknowledged = []
    left = [survived]

    def interrupt_after(name):
        real = getattr(Path, name)

        def step(self, *arguments, **options):
            done = real(self, *arguments, **options)
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return done

        monkeypatch.setattr(Path, name, step)

    writer = ResultsWriter(tmp_path, "s")
    for name in STEPS:
        interrupt_after(name)
    try:
        write_all(writer, results, acknowledged)
    except KeyboardInterrupt:
        pass
    else:
        assert left[0] >= 0
    writer.close()
    check(writer.folder, acknowledged)
    assert waiting_names(writer.folder) == []
    assert not (writer.folder / "damaged").exists(), "half an attempt is no damage"
    writer = ResultsWriter(tmp_path, "s")
    known = read_attempts(writer.folder)
    write_all(writer, [result for result in results if result.trial.trial_id not in known], acknowledged)
    writer.close()
    assert seen_by_a_glob(writer.folder)["trials"] == dict.fromkeys(NAMES, 1)


def write_all(writer, results, acknowledged):
    for result in results:
        writer.write(result)
        acknowledged.append(f"{result.trial.trial_id}-1")


def check(folder, acknowledged):
    """Readers know every attempt once, and a glob sees none twice."""
    rows = [f"{row['trial_id']}-{row['attempt']}" for row in read_trials(folder).to_pylist()]
    assert set(acknowledged) <= set(rows)
    assert len(rows) == len(set(rows))
    assert read_records(folder, "turns", rows).num_rows == 6 * len(rows)
    seen = seen_by_a_glob(folder)
    for table, each in (("trials", 1), ("turns", 6), ("samples", 2)):
        assert set(seen[table].values()) <= {each}, table


def test_a_damaged_part_runs_its_trials_again_and_shows_no_row_twice(tmp_path, results):
    """Catches turns that stay in the folder while their trials run again under the same number."""
    folder = written(tmp_path, results)
    [part] = (folder / "trials").glob("part-000002-*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    (damaged,) = find_damaged(folder)
    assert damaged.path == part
    known = read_attempts(folder, without={part})
    assert len(known) == 8
    set_aside(folder, damaged)
    assert sorted(path.parent.name for path in (folder / "damaged").glob("*/*")) == ["samples", "trials", "turns"]
    assert find_damaged(folder) == []
    missing = [result for result in results if result.trial.trial_id not in known]
    written(tmp_path, missing)
    assert seen_by_a_glob(folder)["turns"] == dict.fromkeys(NAMES, 6)


def test_a_damaged_table_of_a_part_runs_its_trials_again(tmp_path, results):
    """Catches trials that count as finished while their turns are gone."""
    folder = written(tmp_path, results)
    [part] = (folder / "turns").glob("part-000002-*.parquet")
    part.write_bytes(b"")
    attempts = read_attempts(folder, without={part})
    assert sorted(Counter(one.finished for one in attempts.values()).values()) == [4, 8]


@pytest.mark.parametrize("change", ["cut", "flip", "name"])
def test_damaged_waiting_attempts_are_found(tmp_path, results, change):
    """Catches a torn or copied file of a waiting attempt that is taken for a result, or stops the next run."""
    folder = written(tmp_path, results[:5], close=False)
    path = waiting_path(folder, NAMES[4])
    content = path.read_bytes()
    if change == "name":
        shutil.copy(path, waiting_path(folder, NAMES[6]))
        path = waiting_path(folder, NAMES[6])
    else:
        path.write_bytes(content[:-3] if change == "cut" else content[:-40] + b"?" + content[-39:])
    (damaged,) = find_damaged(folder)
    assert (damaged.path, "\n" in damaged.reason) == (path, False)
    attempts = read_attempts(folder, without={path})
    assert len(attempts) == (5 if change == "name" else 4)
    set_aside(folder, damaged)
    assert read_attempts(folder) == attempts


def test_a_uri_has_every_attempt_and_no_leftovers(tmp_path, results):
    """Catches attempts that reach a URI only when their file is full, and waiting files that stay there for ever."""
    mirror = Mirror((tmp_path / "bucket").as_uri(), tmp_path / "a")
    writer = ResultsWriter(tmp_path / "a", "s")
    for result in results[:9]:
        writer.write(result)
        mirror.push_attempt("s", result.trial.trial_id, 1)
        other = Mirror((tmp_path / "bucket").as_uri(), tmp_path / "b")
        other.pull("s")
        assert result.trial.trial_id in read_attempts(tmp_path / "b" / "s")
    writer.close()
    mirror.push("s")
    other.pull("s")
    assert list((tmp_path / "bucket" / "s" / "waiting").iterdir()) == []
    assert waiting_names(tmp_path / "b" / "s") == []
    assert seen_by_a_glob(tmp_path / "bucket" / "s")["turns"] == dict.fromkeys(NAMES[:9], 6)


def test_taking_over_from_parts(tmp_path, results):
    """Catches attempts of a part that are copied with the rows of others, or under their old number."""
    source = written(tmp_path, results)
    writer = ResultsWriter(tmp_path, "other")
    writer.take_over(source, {NAMES[1]: 3, NAMES[8]: 1})
    writer.close()
    trials = {row["trial_id"]: row for row in read_trials(tmp_path / "other").to_pylist()}
    assert {trial: (row["attempt"], row["sweep"]) for trial, row in trials.items()} == {
        SPECS[1].trial_id: (3, "other"),
        SPECS[8].trial_id: (1, "other"),
    }
    assert len(read_attempt(tmp_path / "other", SPECS[1].trial_id, 3).turns) == 6


def test_parameters_of_plug_ins_in_one_part(tmp_path, make_result):
    """Catches a part with the columns of its first attempt alone, a value in another trial's row, and a part that
    cannot be written because two plug-ins have parameters of one name and two types."""
    specs = [TrialSpec(seed=seed) for seed in range(3)]
    specs += [TrialSpec(method="twin_method:Twin", parameters=twin_method.Twin(alpha=a), seed=3) for a in (0.25, 0.75)]
    specs += [TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=0.1), seed=4), TrialSpec(seed=5)]
    folder = written(tmp_path, [make_result(spec) for spec in specs])
    parts = [pq.read_table(path, partitioning=None) for path in sorted((folder / "trials").glob("part-*.parquet"))]
    assert [part["twin.alpha"].to_pylist() for part in parts] == [[None, 0.25], [0.75, None, None]]
    rows = {row["trial_id"]: row for row in read_trials(folder).to_pylist()}
    assert [rows[spec.trial_id]["twin.alpha"] for spec in specs] == [None, None, None, 0.25, 0.75, None, None]
    assert [rows[spec.trial_id]["kvcomm.gamma"] for spec in specs] == [*[None] * 5, 0.1, None]


def test_columns_that_do_not_go_together_get_files_of_their_own(tmp_path, results, monkeypatch):
    """Catches an attempt that waits for ever, or stops the sweep, because its columns do not fit the others."""
    real = results_writer.with_parameters

    def with_size(trials):
        kind = pa.string() if trials["trial_id"][0].as_py() == SPECS[5].trial_id else pa.int64()
        return real(trials).append_column("odd.size", pa.array(["7"]).cast(kind))

    monkeypatch.setattr(results_writer, "with_parameters", with_size)
    folder = written(tmp_path, results[:8])
    assert waiting_names(folder) == []
    assert seen_by_a_glob(folder)["trials"] == dict.fromkeys(NAMES[:8], 1)
    kinds = {path.stem: pq.read_schema(path).field("odd.size").type for path in (folder / "trials").iterdir()}
    assert [stem for stem, kind in kinds.items() if kind == pa.string()] == [NAMES[5]]


def test_one_attempt_at_a_time_reads_each_file_once(tmp_path, results, monkeypatch):
    """Catches a sync of MLflow that reads a file of 256 attempts 256 times, and one that misses later attempts."""
    writer = ResultsWriter(tmp_path, "s")
    for result in results[:9]:
        writer.write(result)
    reader = AttemptReader(writer.folder)
    read = Counter()
    real = sweep_folder.read_file

    def counting(path, table, **options):
        read[path.relative_to(writer.folder)] += not options.get("columns")
        return real(path, table, **options)

    monkeypatch.setattr(sweep_folder, "read_file", counting)
    for result in (*results[:9], *results[:9]):
        assert reader.result(result.trial.trial_id, 1) == result
    assert {count for path, count in read.items() if path.stem.startswith("part-")} == {1}
    with pytest.raises(StoreError, match="has no attempt"):
        reader.row(SPECS[9].trial_id, 1)
    for result in results[9:]:
        writer.write(result)
    writer.close()
    assert [reader.row(result.trial.trial_id, 1) for result in results] == [result.trial for result in results]
    chosen = [NAMES[11], NAMES[0]]
    assert reader.records("turns", chosen) == read_records(writer.folder, "turns", chosen)


def test_the_first_line_of_a_waiting_attempt_names_it(tmp_path, results):
    """Catches a format that only this version can read: the header is JSON, and the rest Arrow streams."""
    folder = written(tmp_path, results[:5], close=False)
    header = json.loads(waiting_path(folder, NAMES[4]).read_bytes().partition(b"\n")[0])
    assert (header["attempt"], set(header["bytes"])) == (NAMES[4], {"turns", "samples", "trials"})
