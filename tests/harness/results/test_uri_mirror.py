"""Results at a URI: what arrives there, in which order, and what comes back on another machine."""

import dataclasses

import pyarrow.parquet as pq
import pytest

from harness.results import results_writer
from harness.results.damaged_files import files_set_aside, find_damaged, set_aside
from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.results.sweep_folder import read_attempts, read_trials
from harness.results.uri_mirror import mirror_of
from harness.spec import TrialSpec

SPEC, OTHER = TrialSpec(method="kvcomm"), TrialSpec()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine("a")`` is the mirror of one and the same URI as a machine called a sees it."""

    def on(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return mirror_of((tmp_path / "bucket").as_uri())

    return on


def write(mirror, result):
    writer = ResultsWriter(mirror.folder, "s")
    writer.write(result)
    writer.close()


def write_all(mirror, results):
    writer = ResultsWriter(mirror.folder, "s")
    for result in results:
        writer.write(result)
    writer.close()


def files(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )


def test_a_path_needs_no_mirror():
    """Catches plain folders, also on NFS, that are copied to a cache."""
    assert mirror_of("results") is None
    assert mirror_of("/mnt/nfs/results") is None


def test_another_machine_goes_on_where_one_ended(machine, make_result, tmp_path):
    """Catches files that do not arrive, arrive twice, or leave half copies where readers look."""
    first = machine("a")
    assert first.pull() == 0
    write(first, make_result(SPEC, sweep="s"))
    (first.folder / "s" / "sweep.yaml").write_text("name: s\n")
    (first.folder / "mlflow.db").write_text("a view")
    assert first.push("s") == 4
    assert first.push("s") == 1, "the text alone, which may have changed"
    assert files(tmp_path / "bucket") == [
        "s/samples/" + (name := f"{SPEC.trial_id}-1.parquet"),
        "s/sweep.yaml",
        "s/trials/" + name,
        "s/turns/" + name,
    ]

    second = machine("b")
    assert second.folder != first.folder
    assert second.pull("other") == 0
    assert second.pull() == 4
    assert second.pull() == 0
    assert read_attempts(second.folder / "s")[SPEC.trial_id].finished == 1
    write(second, make_result(OTHER, sweep="s"))
    second.push_attempt("s", OTHER.trial_id, 1)
    assert machine("a").pull("s") == 3
    assert set(read_attempts(first.folder / "s")) == {SPEC.trial_id, OTHER.trial_id}


def test_the_row_of_a_trial_comes_last(machine, make_result, tmp_path, monkeypatch):
    """Catches an attempt that readers of the URI take for whole when the copying broke off in its middle."""
    mirror = machine("a")
    write(mirror, make_result(SPEC, sweep="s"))
    copied = []
    real = type(mirror._remote).move

    class Breaks:
        def __getattr__(self, name):
            return getattr(mirror_remote, name)

        def move(self, partial, name):
            if len(copied) == 1:
                raise OSError("the network is gone")
            copied.append(name)
            real(mirror_remote, partial, name)

    mirror_remote = mirror._remote
    for push in (lambda: mirror.push("s"), lambda: mirror.push_attempt("s", SPEC.trial_id, 1)):
        copied.clear()
        mirror._remote = Breaks()
        with pytest.raises(
            StoreError, match=r"results at file:.*/bucket cannot be read or written: the network is gone"
        ):
            push()
        assert not (tmp_path / "bucket" / "s" / "trials" / f"{SPEC.trial_id}-1.parquet").exists()
        mirror._remote = mirror_remote
    assert mirror.push("s") == 2
    for path in (tmp_path / "bucket" / "s").glob("*/*.parquet"):
        pq.read_table(path)


def test_foreign_files_stay_where_they_are(machine, make_result, tmp_path):
    """Catches notes, backups and half copies of a bucket that end up among the results."""
    mirror = machine("a")
    write(mirror, make_result(dataclasses.replace(SPEC, seed=1), sweep="s"))
    mirror.push("s")
    for name in ("notes.txt", "s/trials/notes.txt", "s/.partial/x.parquet", "s/trials/old/x.parquet", "x.parquet"):
        path = tmp_path / "bucket" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("?")
    assert machine("b").pull() == 3


@pytest.mark.parametrize("uri", ["ftp://host/results", "s4://bucket/results", "://results"])
def test_a_uri_of_no_known_kind(uri):
    """Catches a traceback of pyarrow, and a folder called ``ftp:``."""
    with pytest.raises(StoreError, match="which is none of a path, s3://BUCKET/FOLDER") as caught:
        mirror_of(uri)
    assert "\n" not in str(caught.value)


def test_what_another_machine_has_made_since_does_not_count_twice(machine, make_result, monkeypatch):
    """Catches a part that never reached the URI, beside one with the same number and partly the same attempts of a
    machine that went on without it: the attempts of both would count."""
    monkeypatch.setattr(results_writer, "_SHARE", 1)
    monkeypatch.setattr(results_writer, "_MOST", 4)
    results = [make_result(TrialSpec(seed=seed), sweep="s") for seed in range(9)]
    first, second = machine("a"), machine("b")
    write_all(first, results[:4])
    first.push("s")
    second.pull()
    write_all(first, results[4:7])  # these stay on the machine
    write_all(second, results[5:9])
    second.push("s")
    first.pull("s")
    left = {path.name for path in (first.folder / "s" / "trials").glob("part-*")}
    assert left == {path.name for path in (second.folder / "s" / "trials").glob("part-*")}
    assert len(left) == 2
    assert set(read_attempts(first.folder / "s")) == {result.trial.trial_id for result in results[:4] + results[5:]}
    assert len(files_set_aside(first.folder / "s")) == 3, "nothing is lost"
    write_all(first, results[4:5])
    first.push("s")
    second.pull()
    assert read_trials(second.folder / "s").num_rows == 9


@pytest.mark.parametrize("table", ["trials", "turns"])
def test_what_was_set_aside_does_not_come_back(machine, make_result, table):
    """Catches a file that is damaged here and whole at the URI: its trial runs again, and would then be there twice."""
    mirror = machine("a")
    write(mirror, make_result(SPEC, sweep="s"))
    mirror.push("s")
    path = mirror.folder / "s" / table / f"{SPEC.trial_id}-1.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    [damaged] = find_damaged(mirror.folder / "s")
    set_aside(mirror.folder / "s", damaged)
    mirror.move_aside("s", damaged)
    there = files(mirror.folder)
    mirror.pull("s")
    assert files(mirror.folder) == there
    assert (table == "trials") == (SPEC.trial_id not in read_attempts(mirror.folder / "s"))
