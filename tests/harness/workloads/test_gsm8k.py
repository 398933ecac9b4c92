"""gsm8k: where the problems come from, what is refused, and the verdict. No network and no real data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.workloads.base import DataMissingError, Grade, Item
from harness.workloads.gsm8k import Gsm8kSpec

ROWS = [
    {"question": "Ann has 2 eggs and finds 3. How many?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"},
    {"question": "A house costs $1,000 and another 500. Sum?", "answer": "It is 1,500.\n#### 1,500"},
    {"question": "It was 3 degrees and fell by 13. Now?", "answer": "3 - 13 = -10\n#### -10"},
]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    # A line separator inside a question is legal JSON and no end of line.
    rows = [{**ROWS[0], "question": ROWS[0]["question"] + "\u2028"}, *ROWS[1:]]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def unreachable(*args: object, **kwargs: object) -> None:
    raise OSError("no network in tests\nand a second line")


def test_items_in_file_order(problems: Path) -> None:
    """Catches splitting at characters that are no line ends, shuffling by seed and a shifting item id."""
    items = Gsm8kSpec(path=str(problems)).load(seed=0)
    assert [item.item_id for item in items] == ["gsm8k-0000", "gsm8k-0001", "gsm8k-0002"]
    assert [item.expected for item in items] == ["5", "1,500", "-10"]
    assert [item.question for item in items] == [row["question"] for row in ROWS]
    assert Gsm8kSpec(path=str(problems), limit=2).load(seed=7) == items[:2]


def test_the_real_references_are_all_correct() -> None:
    """Catches a grader that fails on what the benchmark's authors wrote: all 1,319 solutions, as answers.

    The file is ``data/gsm8k_test.jsonl``, or what the variable ``GSM8K_TEST`` names.
    """
    path = Path(os.environ.get("GSM8K_TEST", "data/gsm8k_test.jsonl"))
    if not path.is_file():
        pytest.skip(f"no file {path}; GSM8K_TEST may name another")
    items = Gsm8kSpec(path=str(path)).load(seed=0)
    references = [json.loads(line)["answer"] for line in path.read_bytes().splitlines()]
    assert len(items) == 1319
    for item, reference in zip(items, references, strict=True):
        assert Gsm8kSpec().grade(item, reference) == Grade("correct", item.expected, "hashes")
        said = f"{reference.rpartition('####')[0]}\nThe answer is ${item.expected}."
        assert Gsm8kSpec().grade(item, said) == Grade("correct", item.expected, "answer_is")


def test_more_items_than_there_are(problems: Path) -> None:
    """Catches a benchmark of 3 items reported as one of 5."""
    with pytest.raises(ValueError, match=r"workload\.limit is 5; allowed: 1 to 3, the number of items in .*jsonl"):
        Gsm8kSpec(path=str(problems), limit=5).load(seed=0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: not JSON"),
        ("", r"line 2: not JSON"),
        ("[1]", r"line 2: \[1\]; allowed: one JSON object per line"),
        ('{"answer": "#### 1"}', r"line 2: question is None; allowed: text"),
        ('{"question": 3, "answer": "#### 1"}', r"line 2: question is 3; allowed: text"),
        ('{"question": "?", "answer": " "}', r"line 2: answer is ' '; allowed: text"),
        ('{"question": "?", "answer": "1"}', r"line 2: answer is '1'; allowed: text that ends with '#### N'"),
        ('{"question": "?", "answer": "#### one"}', r"line 2: answer is '#### one'; allowed"),
        ('{"question": "?", "answer": "#### 1 2"}', r"line 2: answer is '#### 1 2'; allowed"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    """Catches a bad line that is skipped, or an error that does not say where it is."""
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(ROWS[0])}\n{line}\n{json.dumps(ROWS[1])}\n")
    with pytest.raises(ValueError, match=rf"bad\.jsonl {message}"):
        Gsm8kSpec(path=str(path)).load(seed=0)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    """Catches a decoding error that names no file."""
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"question": "caf\xe9?", "answer": "#### 1"}\n')
    with pytest.raises(ValueError, match=r"latin\.jsonl line 1: not UTF-8 text \(byte 17\)"):
        Gsm8kSpec(path=str(path)).load(seed=0)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """Catches a trial over nothing."""
    path = tmp_path / "empty.jsonl"
    path.touch()
    with pytest.raises(ValueError, match=r"empty\.jsonl: holds no rows; allowed: one or more"):
        Gsm8kSpec(path=str(path)).load(seed=0)


def test_missing_data_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a message that leaves the user alone, and retries that take half a minute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    reason = Gsm8kSpec().available()
    assert reason == "no file data/gsm8k_test.jsonl here, and the Hub cannot be reached (no network in tests)"
    with pytest.raises(DataMissingError) as caught:
        Gsm8kSpec().load(seed=0)
    message = str(caught.value)
    assert "\n" not in message
    for remedy in ("workload.path", "data/gsm8k_test.jsonl", "hf download openai/gsm8k"):
        assert remedy in message


def test_a_named_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches falling back to other data than the user named."""
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    spec = Gsm8kSpec(path=str(tmp_path / "typo.jsonl"))
    assert spec.available() == f"no such file: {tmp_path / 'typo.jsonl'}"
    with pytest.raises(DataMissingError, match=r"no such file: .*typo\.jsonl"):
        spec.load(seed=0)


def test_the_default_file_comes_before_the_hub(tmp_path: Path, problems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches asking the network for what lies in the current directory."""
    (tmp_path / "data").mkdir()
    problems.rename(tmp_path / "data" / "gsm8k_test.jsonl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    assert Gsm8kSpec().available() is None
    assert len(Gsm8kSpec().load(seed=0)) == 3


def test_the_hubs_file_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a Parquet file read otherwise than the jsonl one, and a network call where the cache has the file."""
    cached = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), cached)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **_: str(cached))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda **_: str(cached))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    assert [item.expected for item in Gsm8kSpec(limit=2).load(seed=0)] == ["5", "1,500"]


def test_offline_mode_is_respected_and_quick(tmp_path: Path) -> None:
    """Catches a check that hangs where HF_HUB_OFFLINE says that there is no network."""
    code = "from harness.workloads.gsm8k import *; print(Gsm8kSpec().available())"
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert "offline mode is enabled" in run.stdout


@pytest.mark.parametrize(
    ("expected", "answer", "grade"),
    [
        ("1,500", "The answer is $1500.00.", Grade("correct", "1500.00", "answer_is")),
        ("12", "She has 24/2 apples", Grade("correct", "24/2", "last_number")),
        ("-10", "The answer is 10", Grade("wrong", "10", "answer_is")),
        ("5", "The answer is 5 or 6", Grade("unparsable", None, "several_numbers_stated")),
        ("5", "", Grade("unparsable", None, "no_number")),
    ],
)
def test_verdicts(expected: str, answer: str, grade: Grade) -> None:
    """Catches comparing text with text, losing a sign, and unparsable counted as wrong."""
    assert Gsm8kSpec().grade(Item("gsm8k-0000", "?", expected), answer) == grade


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"limit": 0}, r"workload\.limit is 0; allowed: 1 or more, or null"), ({"path": " "}, r"workload\.path is ' '")],
)
def test_bad_parameters(fields: dict[str, object], message: str) -> None:
    """Catches a limit of 0 that means all and an empty path that means the default."""
    with pytest.raises(ValueError, match=message):
        Gsm8kSpec(**fields)  # type: ignore[arg-type]
