"""Damaged files: what counts as one, and that none is lost."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.results.damaged_files import files_set_aside, find_damaged, set_aside
from harness.results.parquet_files import StoreError
from harness.results.results_writer import ResultsWriter
from harness.results.sweep_folder import read_attempts, read_records
from harness.spec import TrialSpec

SPEC, OTHER = TrialSpec(), TrialSpec(seed=1)
NAME = f"{SPEC.trial_id}-1.parquet"


@pytest.fixture
def folder(tmp_path, make_result):
    writer = ResultsWriter(tmp_path, "s")
    for spec in (SPEC, OTHER):
        writer.write(make_result(spec))
    writer.close()
    return tmp_path / "s"


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


def of_another_trial(path):
    shutil.copy(path.parent / f"{OTHER.trial_id}-1.parquet", path)


def of_something_else(path):
    pq.write_table(pa.table({"a": [1]}), path)


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("table", ["trials", "turns", "samples"])
@pytest.mark.parametrize("damage", [cut_off, empty, of_another_trial, of_something_else, a_folder])
def test_a_damaged_file_is_set_aside_and_its_trial_is_not_finished(folder, table, damage):
    """Catches a file that is taken for a result, dropped silently, or written over."""
    path = folder / table / NAME
    assert find_damaged(folder) == []
    damage(path)
    content = path.read_bytes() if path.is_file() else None
    (damaged,) = find_damaged(folder)
    assert damaged.path == path
    assert damaged.reason
    assert "\n" not in damaged.reason
    attempts = read_attempts(folder, without={path})
    assert SPEC.trial_id not in attempts or attempts[SPEC.trial_id].finished is None
    assert attempts[OTHER.trial_id].finished == 1
    where = set_aside(folder, damaged)
    assert where == folder / "damaged" / table / NAME
    assert content is None or where.read_bytes() == content
    assert find_damaged(folder) == []
    assert read_attempts(folder) == attempts


def test_files_that_belong_to_nobody(folder):
    """Catches a note in the folder of a table, which breaks readers of whole folders, and hidden files moved."""
    for name in ("notes.txt", ".nfs0001", "_SUCCESS"):
        (folder / "turns" / name).write_text("?")
    (damaged,) = find_damaged(folder)
    assert (damaged.path.name, damaged.reason) == ("notes.txt", "no Parquet file")


def test_two_files_of_one_name(folder):
    """Catches the second damaged file of a trial replacing the first."""
    path = folder / "trials" / NAME
    for content in (b"first", b"second", b"third"):
        path.write_bytes(content)
        set_aside(folder, find_damaged(folder)[0])
    aside = [file for file in files_set_aside(folder) if file.parent.name == "trials"]
    assert [file.name for file in aside] == [NAME, f"{NAME}.2", f"{NAME}.3"]
    assert [file.read_bytes() for file in aside] == [b"first", b"second", b"third"]


def test_damage_within_a_page_is_found_by_the_reader(folder):
    """Catches numbers read from a file of which a bit has changed: pages carry checksums."""
    path = folder / "turns" / NAME
    content = bytearray(path.read_bytes())
    content[content.index(b"Reader") + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{NAME} cannot be read as Parquet"):
        read_records(folder, "turns", [NAME.removesuffix(".parquet")])
