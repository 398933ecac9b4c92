"""Damaged question files, given to the command itself: a table of what is damaged and which line comes.

Each is refused by ``plan`` with one line that names the file, the line and the field, and exit code 2.
"""

import csv
import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from harness.workloads import sources
from sweeps.cli import app

GSM8K = {"question": "How many?", "answer": "#### 3"}
AIME = {"problem": "How many?", "answer": "33"}
MATH = {"problem": "How many?", "answer": "3", "unique_id": "a"}
MMLU = {"question": "Which?", "subject": "law", "choices": ["a", "b", "c", "d"], "answer": 0}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def twice(x):\n    """ Double x. """\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plan(workload, name):
    """``kvcomm plan`` of a sweep on a file, which must not end in a traceback."""
    Path("sweep.yaml").write_text(
        f"name: x\nmodel: random:smollm2-135m\nworkload: {{name: {workload}, path: {name}}}\nmax_new_tokens: 8\n"
    )
    done = CliRunner().invoke(app, ["plan", "sweep.yaml"])
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert "Traceback" not in done.output
    return done


def lines(*rows):
    """A jsonl file."""
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()


def parquet(*rows, schema=None):
    """A Parquet file."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([*rows], schema=schema), buffer, write_page_checksum=True)
    return buffer.getvalue().to_pybytes()


def flipped(content, within):
    """A file of which one bit differs."""
    place = content.index(within)
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def two_columns():
    """A Parquet file with two columns of one name."""
    buffer = pa.BufferOutputStream()
    values = pa.array(["#### 3"])
    pq.write_table(pa.Table.from_arrays([values] * 3, names=["question", "answer", "answer"]), buffer)
    return buffer.getvalue().to_pybytes()


def moments():
    """A Parquet file with a moment that Python has no date for."""
    buffer = pa.BufferOutputStream()
    values = pa.array([2**62]).cast(pa.timestamp("us"))
    pq.write_table(pa.table({"question": ["a"], "answer": ["#### 3"], "when": values}), buffer)
    return buffer.getvalue().to_pybytes()


def humaneval(**changes):
    """A file whose second problem differs."""
    return lines(HUMANEVAL, {**HUMANEVAL, "task_id": "HumanEval/1", **changes})


LINE_2 = "q.jsonl line 2: "
LONG = "9" * 5000

FILES = {
    "empty": ("gsm8k", "q.jsonl", b"", "q.jsonl: holds no rows; allowed: one or more"),
    "blank lines alone": ("gsm8k", "q.jsonl", b"\n\n", "q.jsonl line 1: not JSON"),
    "half a line": ("gsm8k", "q.jsonl", lines(GSM8K) + b'{"question": "a', f"{LINE_2}not JSON (Unterminated string"),
    "list": ("gsm8k", "q.jsonl", lines(GSM8K, [1]), f"{LINE_2}[1]; allowed: one JSON object per line"),
    "one document of many lines": (
        "gsm8k",
        "q.json",
        json.dumps([GSM8K], indent=1).encode(),
        "q.json line 1: not JSON",
    ),
    "UTF-16": ("gsm8k", "q.jsonl", lines(GSM8K).decode().encode("utf-16"), "line 1: not UTF-8 text (byte 0)"),
    "latin-1": ("gsm8k", "q.jsonl", lines(GSM8K) + b'{"question": "caf\xe9"}', f"{LINE_2}not UTF-8 text (byte 17)"),
    "NUL": ("gsm8k", "q.jsonl", lines(GSM8K) + b'{"question": "\0"}', f"{LINE_2}not JSON (Invalid control character"),
    "half of a surrogate pair": (
        "gsm8k",
        "q.jsonl",
        lines(GSM8K, '{"question": "\\ud800", "answer": "#### 3"}'),
        f"{LINE_2}not JSON (a text holds \\ud800, half of a surrogate pair; allowed: whole characters)",
    ),
    "key given twice": (
        "gsm8k",
        "q.jsonl",
        lines(GSM8K, '{"question": "a", "answer": "#### 3", "answer": "#### 4"}'),
        f"{LINE_2}not JSON (key 'answer' is given twice)",
    ),
    "brackets without end": ("gsm8k", "q.jsonl", lines(GSM8K, "[" * 100_000), f"{LINE_2}not JSON (nested more than 50"),
    "nested deeply": ("gsm8k", "q.jsonl", lines('{"a":' * 600 + "1" + "}" * 600), "line 1: not JSON (nested more than"),
    "5000 digits": ("gsm8k", "q.jsonl", lines(f'{{"question": {LONG}}}'), "line 1: not JSON (Exceeds the limit"),
    "400 digits": ("gsm8k", "q.jsonl", lines(f'{{"question": {LONG[:400]}}}'), "line 1: question is 9999"),
    "a float without end": ("gsm8k", "q.jsonl", lines('{"question": 1e999}'), "1e999 is too large for a number"),
    "NaN": ("gsm8k", "q.jsonl", lines('{"question": NaN}'), "NaN is no JSON; allowed: finite numbers"),
    "minus infinity": ("gsm8k", "q.jsonl", lines('{"question": -Infinity}'), "-Infinity is no JSON"),
    "question missing": ("gsm8k", "q.jsonl", lines(GSM8K, {"answer": "#### 3"}), f"{LINE_2}question is None; allowed"),
    "question a list": ("gsm8k", "q.jsonl", lines({**GSM8K, "question": ["a"]}), "line 1: question is ['a']; allowed"),
    "answer missing": ("gsm8k", "q.jsonl", lines(GSM8K, {"question": "a"}), f"{LINE_2}answer is None; allowed: text"),
    "answer of 5000 digits": ("aime", "q.jsonl", lines({**AIME, "answer": LONG}), "an integer from 0 to 999"),
    "answer of 400 digits": ("aime", "q.jsonl", lines({**AIME, "answer": int(LONG[:400])}), "an integer from 0 to 999"),
    "answer true": ("aime", "q.jsonl", lines({**AIME, "answer": True}), "answer is True; allowed: an integer from 0"),
    "three choices": ("mmlu", "q.jsonl", lines({**MMLU, "choices": ["a"] * 3}), "choices is ['a', 'a', 'a']; allowed"),
    "answer out of range": ("mmlu", "q.jsonl", lines({**MMLU, "answer": 4}), "answer is 4; allowed: 0, 1, 2 or 3"),
    "same id twice": (
        "math500",
        "q.jsonl",
        lines(MATH, {**MATH, "unique_id": "b"}, MATH),
        "q.jsonl line 3: item 'math500-a' was given at q.jsonl line 1 already",
    ),
    "same task twice": (
        "humaneval",
        "q.jsonl",
        lines(HUMANEVAL, HUMANEVAL),
        "item 'HumanEval/0' was given at q.jsonl line 1",
    ),
    "tests that are no Python": (
        "humaneval",
        "q.jsonl",
        humaneval(test="def check(:"),
        f"{LINE_2}test is 'def check(:'",
    ),
    "tests with NUL": ("humaneval", "q.jsonl", humaneval(test="check = 1\0"), f"{LINE_2}test is 'check = 1\\x00'"),
    "tests nested deeply": ("humaneval", "q.jsonl", humaneval(test="(" * 9000), "Python that defines a function check"),
    "tests without check": (
        "humaneval",
        "q.jsonl",
        humaneval(test="def test(candidate):\n    check = 1\n"),
        "allowed: Python that defines a function check",
    ),
    "tests that return": ("humaneval", "q.jsonl", humaneval(test="def check(c): pass\nreturn"), f"{LINE_2}test is"),
    "no tests": ("humaneval", "q.jsonl", humaneval(test=" "), f"{LINE_2}test is ' '; allowed: text"),
    "entry point that is no name": (
        "humaneval",
        "q.jsonl",
        humaneval(entry_point="twice; x"),
        f"{LINE_2}entry_point is 'twice; x'; allowed: the name of a function",
    ),
    "entry point that is a keyword": ("humaneval", "q.jsonl", humaneval(entry_point="def"), "entry_point is 'def'"),
    "entry point elsewhere": (
        "humaneval",
        "q.jsonl",
        humaneval(entry_point="thrice"),
        "allowed: Python that ends within the function 'thrice'",
    ),
    "prompt that is no Python": (
        "humaneval",
        "q.jsonl",
        humaneval(prompt="def twice(x:"),
        f"{LINE_2}prompt is 'def twice(x",
    ),
    "gz that is none": ("gsm8k", "q.jsonl.gz", lines(GSM8K), "q.jsonl.gz: not a gzip file (Not a gzipped file"),
    "gz cut off": (
        "gsm8k",
        "q.jsonl.gz",
        gzip.compress(lines(GSM8K) * 50)[:-9],
        "q.jsonl.gz: not a gzip file (Compressed",
    ),
    "gz with something behind": (
        "gsm8k",
        "q.jsonl.gz",
        gzip.compress(lines(GSM8K)) + b"xx",
        "not a gzip file (Not a gz",
    ),
    "gz with a changed bit": (
        "gsm8k",
        "q.jsonl.gz",
        gzip.compress(lines(GSM8K))[:10] + b"\xff" * 9,
        "q.jsonl.gz: not a gzip file (Error -3",
    ),
    "gz of one long line": (
        "gsm8k",
        "q.jsonl.gz",
        gzip.compress(b"x" * 10_000_001),
        "q.jsonl.gz line 1: too long; allowed",
    ),
    "Parquet cut off": (
        "gsm8k",
        "q.parquet",
        parquet(GSM8K)[:-7],
        "q.parquet: not a Parquet file (Parquet magic bytes",
    ),
    "Parquet with a changed bit": (
        "gsm8k",
        "q.parquet",
        flipped(parquet(GSM8K), b"How many"),
        "not a Parquet file (could not",
    ),
    "Parquet without rows": ("gsm8k", "q.parquet", parquet(schema=pa.schema([("a", pa.int8())])), "holds no rows"),
    "Parquet of other columns": ("gsm8k", "q.parquet", parquet({"a": 1}), "q.parquet row 1: question is None; allowed"),
    "Parquet with a null": ("gsm8k", "q.parquet", parquet(GSM8K, {**GSM8K, "answer": None}), "row 2: answer is None"),
    "Parquet with two answers": (
        "gsm8k",
        "q.parquet",
        two_columns(),
        "q.parquet: has two columns 'answer'; allowed: each",
    ),
    "Parquet of moments beyond all dates": (
        "gsm8k",
        "q.parquet",
        moments(),
        "q.parquet rows from 1 on: ",
    ),
}
"""By what is damaged: the workload, the file's name and content, and the line that comes."""


@pytest.mark.parametrize(("workload", "name", "content", "line"), FILES.values(), ids=FILES)
def test_a_damaged_file(workload, name, content, line):
    """Catches a traceback, a line that is skipped, and a message that does not say where the mistake is."""
    Path(name).write_bytes(content)
    done = plan(workload, name)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith(f"kvcomm: sweep.yaml: workload {workload}: {name}")
    assert line in done.stderr
    assert len(done.stderr) < 600


GOOD = {
    "byte order mark": ("gsm8k", "q.jsonl", b"\xef\xbb\xbf" + lines(GSM8K)),
    "byte order mark in gz": ("gsm8k", "q.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + lines(GSM8K))),
    "CRLF": ("gsm8k", "q.jsonl", lines(GSM8K, GSM8K).replace(b"\n", b"\r\n")),
    "no end of the last line": ("gsm8k", "q.jsonl", lines(GSM8K).rstrip()),
    "whole surrogate pair": ("gsm8k", "q.jsonl", lines(r'{"question": "\ud83d\ude00", "answer": "#### 3"}')),
    "several gzip members": ("gsm8k", "q.jsonl.gz", gzip.compress(lines(GSM8K)) + gzip.compress(lines(GSM8K))),
    "check that is made": ("humaneval", "q.jsonl", humaneval(test="check = lambda candidate: None")),
    "odd escape in the tests": ("humaneval", "q.jsonl", humaneval(test="def check(c): assert c('\\d')")),
    "other columns": ("aime", "q.parquet", parquet({**AIME, "year": 2024, "more": {"a": [1]}})),
}


@pytest.mark.parametrize(("workload", "name", "content"), GOOD.values(), ids=GOOD)
def test_what_users_have(workload, name, content):
    """Catches a file being refused that is sound but for habits of the editor it was written with."""
    Path(name).write_bytes(content)
    done = plan(workload, name)
    assert (done.exit_code, done.stderr) == (0, "")


def test_csv(tmp_path):
    """Catches a mark that becomes a part of the first question, and NUL, long fields or missing columns let in."""
    folder = Path("q")
    folder.mkdir()
    path = folder / "law_val.csv"
    row = b'"Which?",a,b,c,d,A\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + row)
    assert plan("mmlu", "q").exit_code == 0
    [found] = sources.read_csv(path, ("question", *"ABCD", "answer"))
    assert found.fields["question"] == "Which?"
    for content, line in (
        (row + b"a,b\n", "law_val.csv line 2: 2 columns; allowed: 6"),
        (row + b'"Which', "law_val.csv line 2: not CSV"),
        (row + b"\xff", "law_val.csv line 2: not UTF-8 text"),
        (b"x" * (csv.field_size_limit() + 1), "law_val.csv line 1: not CSV (field larger than field limit"),
        (b"Which?,a,b,c,d,E\n", "law_val.csv line 1: answer is 'E'; allowed: A, B, C, D"),
    ):
        path.write_bytes(content)
        done = plan("mmlu", "q")
        assert (done.exit_code, len(done.stderr.splitlines()), line in done.stderr) == (2, 1, True)


@pytest.mark.parametrize("name", ["q.jsonl", "q.parquet", "q.jsonl.gz"])
def test_pipes_and_devices(name):
    """Catches a plan that waits for the other end of a pipe for ever, or reads a device without end."""
    os.mkfifo(name)
    assert "not a regular file" in plan("gsm8k", name).stderr
    Path(name).unlink()
    Path(name).symlink_to("/dev/zero")
    assert "not a regular file" in plan("gsm8k", name).stderr


@pytest.mark.parametrize("name", ["q.jsonl.gz", "q.parquet"])
def test_small_files_of_large_content(monkeypatch, name):
    """Catches a file of some kilobytes that fills the memory: what is decompressed is bounded, and so are rows."""
    long = {"question": "x" * 1000, "answer": "#### 3"}
    content = gzip.compress(lines(long) * 1000) if name.endswith(".gz") else parquet(*[long] * 1000)
    assert len(content) < 50_000
    Path(name).write_bytes(content)
    assert plan("gsm8k", name).exit_code == 0
    monkeypatch.setattr(sources, "MAX_BYTES", 500_000)
    assert "too large; allowed: 500,000 bytes, decompressed" in plan("gsm8k", name).stderr
    monkeypatch.setattr(sources, "MAX_BYTES", 5_000_000)
    monkeypatch.setattr(sources, "MAX_ROWS", 999)
    assert "too many rows; allowed: 999" in plan("gsm8k", name).stderr
