"""mmlu: both forms of the data, the permutation of the paper's code, and the verdict. Questions of our own."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.workloads.base import Grade, Item
from harness.workloads.mmlu import MmluSpec

# By subject, in the order of its file: question, choices, letter. The subjects are not in sorted order.
QUESTIONS: dict[str, list[tuple[str, list[str], str]]] = {
    "zoology": [
        ("Which one flies?", ["Cow", "Bat", "Dog", "Ant"], "B"),
        ("How many legs\nhas a spider?", ["2", "4", "6", "8"], "D"),
    ],
    "abstract_art": [
        ("Who painted, in 1921, a \"red\" square?", ["Ann, B.", "None", "NA", ""], "A"),
        ("Which colour is cold?", ["Red", "Orange", "Blue", "Yellow"], "C"),
        ("Which is a shape?", ["Loud", "Round", "Sour", "Late"], "B"),
    ],
    "music": [("How many lines has a staff?", ["3", "4", "5", "6"], "C")],
}  # fmt: skip

SORTED = ["abstract_art-000", "abstract_art-001", "abstract_art-002", "music-000", "zoology-000", "zoology-001"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "val"
    folder.mkdir()
    (folder / "README.txt").write_text("not a subject")
    for subject, questions in QUESTIONS.items():
        with (folder / f"{subject}_val.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([question, *choices, letter] for question, choices, letter in questions)
    return folder


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    rows = [
        {"question": question, "subject": subject, "choices": choices, "answer": "ABCD".index(letter)}
        for subject, questions in QUESTIONS.items()
        for question, choices, letter in questions
    ]
    path = tmp_path / "validation.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_both_forms_give_the_same_items(folder: Path, parquet: Path) -> None:
    """Catches letters shifted by one, 'None' and 'NA' read as missing, and ids that depend on the form."""
    items = MmluSpec(path=str(folder)).load(seed=0)
    assert MmluSpec(path=str(parquet)).load(seed=5) == items
    by_id = {item.item_id.removeprefix("mmlu-"): item for item in items}
    assert sorted(by_id) == SORTED
    assert by_id["abstract_art-000"] == Item(
        "mmlu-abstract_art-000",
        'Who painted, in 1921, a "red" square?\nA) Ann, B.\nB) None\nC) NA\nD) ',
        "A",
        ("A", "B", "C", "D"),
        {"A": "Ann, B.", "B": "None", "C": "NA", "D": ""},
    )
    assert {item.item_id[5:]: item.expected for item in items} == {
        "abstract_art-000": "A", "abstract_art-001": "C", "abstract_art-002": "B",
        "music-000": "C", "zoology-000": "B", "zoology-001": "D",
    }  # fmt: skip


def test_file_order_is_the_permutation_of_the_sorted_subjects(folder: Path) -> None:
    """Catches a permutation per subject, over files as the system lists them, or that is moved by the trial's seed."""
    permuted = [f"mmlu-{SORTED[index]}" for index in np.random.default_rng(888).permutation(6)]
    assert permuted != [f"mmlu-{name}" for name in SORTED]
    assert [item.item_id for item in MmluSpec(path=str(folder)).load(seed=3)] == permuted
    assert [item.item_id for item in MmluSpec(path=str(folder), limit=4).load(seed=0)] == permuted[:4]


def test_the_papers_permutation() -> None:
    """Golden: catches a numpy whose generator draws otherwise, after which 153 items are no longer the paper's."""
    assert np.random.default_rng(888).permutation(1531)[:5].tolist() == [884, 1021, 475, 148, 871]


def test_orders_keep_the_items(folder: Path) -> None:
    """Catches an order that is applied to the whole file before the limit."""
    orders = ("file", "random", "ascending", "descending")
    chosen = [MmluSpec(path=str(folder), limit=4, order=order).load(seed=1) for order in orders]
    assert len({frozenset(item.item_id for item in items) for items in chosen}) == 1
    lengths = [[len(item.question) for item in items] for items in chosen]
    assert lengths[2] == sorted(lengths[0])
    assert lengths[3] == sorted(lengths[0], reverse=True)


ROW: dict[str, Any] = {"question": "?", "subject": "music", "choices": ["a", "b", "c", "d"], "answer": 0}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question": ""}, r"question is ''; allowed: text"),
        ({"subject": None}, r"subject is None; allowed: text"),
        ({"choices": ["a", "b", "c"]}, r"choices is \['a', 'b', 'c'\]; allowed: a list of four texts"),
        ({"choices": ["a", "b", "c", 4]}, r"choices is \['a', 'b', 'c', 4\]; allowed: a list of four texts"),
        ({"choices": "abcd"}, r"choices is 'abcd'; allowed: a list of four texts"),
        ({"answer": 4}, r"answer is 4; allowed: 0, 1, 2 or 3"),
        ({"answer": -1}, r"answer is -1; allowed"),
        ({"answer": "A"}, r"answer is 'A'; allowed"),
        ({"answer": True}, r"answer is True; allowed"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """Catches a bad row that is skipped, and a letter counted from the end."""
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps({**ROW, **changed})}\n")
    with pytest.raises(ValueError, match=rf"bad\.jsonl line 2: {message}"):
        MmluSpec(path=str(path)).load(seed=0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("?,a,b,c,d,E", r"line 2: answer is 'E'; allowed: A, B, C, D"),
        ("?,a,b,c,d,", r"line 2: answer is ''; allowed: text"),
        (",a,b,c,d,A", r"line 2: question is ''; allowed: text"),
        ("?,a,b,c,A", r"line 2: 5 columns; allowed: 6"),
    ],
)
def test_malformed_csv_rows_are_named(tmp_path: Path, line: str, message: str) -> None:
    """Catches a column that is missing, after which every letter means another choice."""
    (tmp_path / "music_val.csv").write_text(f"?,a,b,c,d,A\n{line}\n")
    with pytest.raises(ValueError, match=rf"music_val\.csv {message}"):
        MmluSpec(path=str(tmp_path)).load(seed=0)


def test_a_folder_without_subjects(tmp_path: Path) -> None:
    """Catches a trial over nothing where the folder above the files is named."""
    with pytest.raises(ValueError, match=r"no questions; allowed: a folder of <subject>_val\.csv files"):
        MmluSpec(path=str(tmp_path)).load(seed=0)


@pytest.mark.parametrize(
    ("answer", "grade"),
    [
        ("The answer is (B).", Grade("correct", "B", "answer_is")),
        ("The answer is C.", Grade("wrong", "C", "answer_is")),
        ("Bat", Grade("correct", "B", "choice_text")),
        ("The answer is B or C.", Grade("unparsable", None, "several_letters_stated")),
        ("A bat can fly.", Grade("unparsable", None, "no_letter")),
        ("", Grade("unparsable", None, "no_letter")),
    ],
)
def test_verdicts(folder: Path, answer: str, grade: Grade) -> None:
    """Catches unparsable counted as wrong; which letter an answer gives is tested in test_letters.py."""
    [item] = [item for item in MmluSpec(path=str(folder)).load(0) if item.item_id == "mmlu-zoology-000"]
    assert MmluSpec().grade(item, answer) == grade
