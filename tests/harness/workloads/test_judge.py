"""judge: its items, the order of the candidates, the grade of a pick, and what is refused."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.spec import TrialSpec
from harness.workloads.base import DataMissingError, Grade
from harness.workloads.judge import JudgeSpec

SOLVED = [
    {"question": f"{n} bags of 3?", "answer": f"{n} * 3 = <<{n}*3={3 * n}>>{3 * n}\n#### {3 * n}"} for n in range(2, 42)
]
OWN = {"question": " Best name? ", "candidates": ["Ada", " Bob", "Cy", "Di"], "answer": "Cy"}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("candidates", [2, 3, 4])
def test_one_candidate_of_a_story_is_right(candidates: int) -> None:
    """Catches a story in which no candidate or several are right, a right letter that is always the same, and items
    that repeat."""
    items = JudgeSpec(limit=500, candidates=candidates).load(3)
    assert len({item.item_id for item in items}) == len({item.question for item in items}) == 500
    shares = Counter(item.expected for item in items)
    assert len(shares) == candidates
    assert min(shares.values()) > 0.7 * 500 / candidates
    for item in items:
        story = item.question.partition("\n\nQuestion: ")[0]
        assert item.candidates == tuple("ABCD"[:candidates])
        assert item.given == tuple(item.data[letter] for letter in item.candidates)
        right = []
        for letter, text in item.data.items():
            claims = re.fullmatch(r"The text says that (.+), and that (.+)\. The question is about \w+: \w+\.", text)
            assert claims, text
            told = [f"{claim}." in story for claim in claims.groups()]
            assert told[0] == told[1]
            right += [letter] * all(told)
        assert right == [item.expected]


def test_candidates_have_equal_length_on_average() -> None:
    """Catches a right answer that its length gives away."""
    items = JudgeSpec(limit=300).load(0)
    right = sum(len(item.data[item.expected]) for item in items)
    assert abs(2 * right / sum(len(text) for item in items for text in item.given) - 1) < 0.01


def test_a_larger_limit_appends_and_a_seed_changes_all() -> None:
    """Catches items that are not those of an earlier sweep."""
    few, many = JudgeSpec(limit=5).load(7), JudgeSpec(limit=50).load(7)
    assert many[:5] == few
    assert not {item.item_id for item in many} & {item.item_id for item in JudgeSpec(limit=50).load(8)}


@pytest.mark.parametrize("from_file", [False, True])
def test_another_shuffle_changes_the_order_alone(from_file: bool, tmp_path: Path) -> None:
    """Catches a reshuffle with other items or candidates, after which nothing can be compared; and one that is none."""
    path = write(tmp_path / "g.jsonl", *SOLVED) if from_file else None
    orders = [JudgeSpec(limit=40, candidates=3, path=path, shuffle=number).load(0) for number in range(6)]
    for same in zip(*orders, strict=True):
        assert len({(item.item_id, item.question, frozenset(item.given)) for item in same}) == 1
        assert len({item.data[item.expected] for item in same}) == 1
        assert len({item.given for item in same}) == 6
    for items in orders:
        assert {item.expected for item in items} == {"A", "B", "C"}


def test_worked_solutions_of_a_file(tmp_path: Path) -> None:
    """Catches a wrong solution that is graded as right, and an id that does not tell the row."""
    items = JudgeSpec(limit=40, candidates=4, path=write(tmp_path / "g.jsonl", *SOLVED)).load(0)
    assert [item.item_id for item in items] == [f"judge-{index:04d}" for index in range(40)]
    for n, item in enumerate(items, start=2):
        right = [letter for letter, text in item.data.items() if text.endswith(f"The answer is {3 * n}")]
        assert right == [item.expected]
        assert item.question == f"{n} bags of 3?"
    assert {item.expected for item in items} == set("ABCD")


def test_own_candidates(tmp_path: Path) -> None:
    """Catches a right answer that is left out because it comes late, and a grade without a right answer."""
    spec = JudgeSpec(limit=2, candidates=3, path=write(tmp_path / "own.jsonl", OWN, {**OWN, "answer": None}))
    graded, ungraded = spec.load(0)
    assert {*graded.given} == {"Cy", "Ada", "Bob"}
    assert graded.data[graded.expected] == "Cy"
    assert {*ungraded.given} == {"Ada", "Bob", "Cy"}
    assert spec.grade(ungraded, "B") == Grade(None, "B", "line")
    assert spec.grade(graded, graded.expected).outcome == "correct"
    [other, _] = {"A", "B", "C"} - {graded.expected}
    assert spec.grade(graded, other) == Grade("wrong", other, "line")
    assert spec.grade(graded, "I cannot tell").outcome == "unparsable"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?", "answer": "no end"}, "answer is 'no end'; allowed: a worked solution that ends with"),
        ({"question": "?", "answer": "#### 3"}, "answer is '#### 3'; allowed: a worked solution that ends with"),
        ({"question": "?", "answer": "So.\n#### 1/3"}, "allowed: a worked solution that ends with '#### N'"),
        ({"question": "?"}, "answer is None; allowed: text that is not empty"),
        ({"question": " ", "candidates": ["a", "b"]}, "question is ' '; allowed: text that is not empty"),
        ({"question": "?", "candidates": ["a", " a"]}, "candidates is .*; allowed: a list of 2 or more different"),
        ({"question": "?", "candidates": ["a", 3]}, "candidates is .*; allowed: a list of 2 or more different texts"),
        ({"question": "?", "candidates": "ab"}, "candidates is 'ab'; allowed: a list of 2 or more different texts"),
        ({"question": "?", "candidates": ["a", "b"], "answer": "c"}, "answer is 'c'; allowed: the text of one of"),
    ],
)
def test_a_malformed_row_is_one_line(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Catches a traceback, and a line that does not name file, line and field."""
    path = write(tmp_path / "x.jsonl", row)
    with pytest.raises(ValueError, match=message) as refused:
        JudgeSpec(limit=1, path=path).load(0)
    assert str(refused.value).startswith(f"{path} line 1: ")
    assert "\n" not in str(refused.value)


def test_files_that_are_missing_short_or_edited(tmp_path: Path) -> None:
    """Catches results of one file taken for those of another."""
    with pytest.raises(DataMissingError, match=r"judge: no such file: nowhere\.jsonl"):
        JudgeSpec(path="nowhere.jsonl").load(0)
    path = write(tmp_path / "own.jsonl", OWN)
    with pytest.raises(ValueError, match=r"workload\.limit is 12; allowed: 1 to 1, the number of rows"):
        JudgeSpec(path=path).load(0)
    pinned = JudgeSpec(limit=1, path=path).pinned()
    assert len(pinned.load(0)) == 1
    write(tmp_path / "own.jsonl", {**OWN, "answer": "Ada"})
    with pytest.raises(ValueError, match=r"allowed: .*, the digest of the file for which the trial was planned"):
        pinned.load(0)
    assert JudgeSpec().pinned() == JudgeSpec()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limit": 0}, "workload.limit is 0; allowed: 1 to 100000"),
        ({"candidates": 5}, "workload.candidates is 5; allowed: 2 to 4"),
        ({"path": " "}, "workload.path is ' '; allowed: a file's path, or null"),
        ({"shuffle": -1}, "workload.shuffle is -1; allowed: 0 to 1, as 2 candidates have 2 orders"),
        ({"shuffle": 6, "candidates": 3}, "workload.shuffle is 6; allowed: 0 to 5, as 3 candidates have 6 orders"),
    ],
)
def test_fields_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JudgeSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"agents": 4}, "agents is 4; allowed: 3, workload.candidates and the judge"),
        ({"rounds": 2}, "rounds is 2; allowed: 1, with workload judge"),
        (
            {"batch_size": 2},
            "batch_size is 2; allowed: 1, with workload judge, whose answers are given, or any with a wave",
        ),
        ({"topology": "chain"}, "topology is 'chain'; allowed: one whose last agent decides and reads all others"),
    ],
)
def test_trials_without_a_judge_of_all_candidates_are_refused(fields: dict[str, Any], message: str) -> None:
    """Catches a judge that cannot see a candidate whose letter it may pick."""
    trial = TrialSpec(workload=JudgeSpec())
    with pytest.raises(ValueError, match=message):
        replace(trial, **fields)


def test_the_expected_work_counts_given_answers() -> None:
    """Catches an estimate that decodes the candidates, whose answers are given."""
    workload = JudgeSpec(limit=20)
    items = workload.load(0)
    turns = workload.work(TrialSpec(workload=workload), items).turns
    assert [turn.given for turn in turns] == [True, True, False]
    assert [turn.answers_read for turn in turns] == [0, 1, 2]
    characters = sum(len(text) for item in items for text in item.given) / 40
    assert turns[0].output_tokens == pytest.approx(characters / 4, abs=3)
    assert turns[2].output_tokens == 8
    assert turns[2].read_tokens == pytest.approx(characters / 4, abs=3)
