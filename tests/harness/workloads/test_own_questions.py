"""questions: files of one's own in their forms, what is refused, and the digest that makes an edited file a new one."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.workloads.base import DataMissingError, Item
from harness.workloads.own_questions import QuestionsSpec

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": " How many? ", "answer": "3", "level": 2, "topic": "eggs"},
    {"id": "b", "question": "How far?", "answer": "1,000", "level": None, "topic": "roads"},
]
CHOICES = [{"question": "Which color?", "choices": ["red", "blue", "green"], "answer": "blue"}]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """``write(name, rows)``: the path of a file with these rows, in the form that its name tells."""

    def write(name: str, rows: list[dict[str, Any]]) -> str:
        path = tmp_path / name
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv", "q.parquet"])
def test_a_row_is_an_item_in_every_form(name: str, write: Callable[..., str]) -> None:
    """Catches a header read as a question, numbers of one form that are text in another, and fields that are lost."""
    items = QuestionsSpec(path=write(name, ROWS), grader="number").load(seed=0)
    assert [(item.item_id, item.question, item.expected) for item in items] == [
        ("a", "How many?", "3"),
        ("b", "How far?", "1,000"),
    ]
    assert items[0].data == {"level": "2", "topic": "eggs"}
    assert QuestionsSpec(path=write(name, ROWS), grader="number", limit=1).load(seed=5) == items[:1]


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv", "q.parquet"])
def test_choices_follow_the_question(name: str, write: Callable[..., str]) -> None:
    """Catches choices that agents do not see, and a text that is not taken for its letter."""
    rows = [{**row, "choices": json.dumps(row["choices"])} for row in CHOICES] if name == "q.csv" else CHOICES
    [item] = QuestionsSpec(path=write(name, rows), grader="choice").load(seed=0)
    assert item.question == "Which color?\nA) red\nB) blue\nC) green"
    assert (item.expected, item.candidates) == ("B", ("A", "B", "C"))
    letters = QuestionsSpec(path=write("l.jsonl", [{**CHOICES[0], "answer": "B"}]), grader="choice").load(seed=0)
    assert letters == [item]


def test_fields_may_have_other_names(write: Callable[..., str]) -> None:
    """Catches a mapping that is read for one field alone."""
    path = write("q.jsonl", [{"prompt": "How many?", "gold": 3, "key": 7, "options": None}])
    spec = QuestionsSpec(
        path=path,
        grader="number",
        question_field="prompt",
        answer_field="gold",
        id_field="key",
        choices_field="options",
    )
    assert spec.load(seed=0) == [Item("7", "How many?", "3")]


def test_answers_may_be_missing_where_nobody_compares_them(write: Callable[..., str]) -> None:
    """Catches an ungraded file that has to invent answers, and an empty answer that everything contains."""
    path = write("q.jsonl", [{"question": "Why?"}])
    [item] = QuestionsSpec(path=path, grader="none").load(seed=0)
    assert item.expected == ""
    assert item.item_id.startswith("questions-")
    assert QuestionsSpec(path=path, grader="own_plug_ins:says_yes").load(seed=0) == [item]
    for grader in ("exact", "contains"):
        with pytest.raises(ValueError, match=f"answer is None; allowed: text that is not empty, with grader {grader}"):
            QuestionsSpec(path=path, grader=grader).load(seed=0)


@pytest.mark.parametrize(
    ("grader", "row", "message"),
    [
        ("number", {"answer": "three"}, "line 2: answer is 'three'; allowed: one number"),
        ("number", {"answer": "1 or 2"}, "allowed: one number"),
        ("exact", {"answer": True}, "answer is True; allowed: text or a number"),
        ("exact", {"answer": ["a"]}, r"answer is \['a'\]; allowed: text or a number"),
        ("choice", {}, "choices is None; allowed: a list of two to four texts"),
        ("choice", {"choices": ["a"]}, r"choices is \['a'\]; allowed: a list of two to four texts"),
        ("choice", {"choices": ["a", "b", "c", "d", "e"]}, "allowed: a list of two to four texts"),
        ("choice", {"choices": "a, b"}, "choices is 'a, b'; allowed: .*, in CSV as JSON"),
        ("choice", {"choices": ["a", "b"], "answer": "C"}, "answer is 'C'; allowed: A, B, or the text of one of the"),
        ("choice", {"choices": ["a", "a"], "answer": "a"}, "answer is 'a'; allowed: A, B, or the text of one of the"),
        ("exact", {"question": ""}, "question is ''; allowed: text that is not empty"),
        ("exact", {"id": "a"}, "line 2: item 'a' was given at .* line 1 already"),
        ("exact", {"id": 1.5}, "id is 1.5; allowed: text or a whole number"),
    ],
)
def test_a_malformed_row_is_named(grader: str, row: dict[str, Any], message: str, write: Callable[..., str]) -> None:
    """Catches a reference that no answer can equal, and a message that does not say where it stands."""
    good = {"id": "a", "question": "How?", "answer": "1", "choices": ["1", "2"]}
    path = write("q.jsonl", [good, {"question": "What?", "answer": "1", **row}])
    with pytest.raises(ValueError, match=message):
        QuestionsSpec(path=path, grader=grader).load(seed=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,question\na,b\n", "line 1: has the column 'question'; allowed: names, each once"),
        ("question,answer\n", "holds no rows; allowed: a header, and one or more"),
        ("question,answer\na\n", r"line 2: 1 columns; allowed: 2 \(question, answer\)"),
        ("", "holds no rows"),
        ("prompt,answer\na,1\n", "line 2: question is None; allowed: text that is not empty"),
    ],
)
def test_a_malformed_csv_file(text: str, message: str, tmp_path: Path) -> None:
    """Catches a file without a header whose first question is lost."""
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        QuestionsSpec(path=str(tmp_path / "q.csv"), grader="exact").load(seed=0)


def test_an_edited_file_is_another_one(write: Callable[..., str]) -> None:
    """Catches results on old questions that are taken for done, and a replica that runs on other ones."""
    path = write("q.jsonl", ROWS)
    pinned = QuestionsSpec(path=path, grader="number").pinned()
    assert pinned.pinned() is pinned
    assert pinned.load(seed=0)
    write("q.jsonl", ROWS[:1])
    assert QuestionsSpec(path=path, grader="number").pinned().content not in (None, pinned.content)
    with pytest.raises(
        ValueError, match=f"its digest is .*; allowed: {pinned.content}, the digest of the file for which"
    ):
        pinned.load(seed=0)
    assert QuestionsSpec(path=f"{path}.none", grader="number").pinned().content is None
    with pytest.raises(DataMissingError, match=r"questions: no such file: .*\.none\. Set workload\.path"):
        QuestionsSpec(path=f"{path}.none", grader="number").load(seed=0)


def test_an_unknown_grader_is_refused() -> None:
    """Catches a mistyped name that is found out when the first answer is graded."""
    with pytest.raises(
        ValueError, match="grader is 'exakt'; allowed: exact, contains, number, choice, none, or module:function"
    ):
        QuestionsSpec(path="q.jsonl", grader="exakt")
    with pytest.raises(ValueError, match="it is no function"):
        QuestionsSpec(path="q.jsonl", grader="own_plug_ins:NO_FUNCTION")
    spelled = QuestionsSpec(path="q.jsonl", grader="python:own_plug_ins:is_long")
    assert spelled == QuestionsSpec(path="q.jsonl", grader="own_plug_ins:is_long")
