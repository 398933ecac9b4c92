"""mmlu: questions with four choices on 57 subjects (Hendrycks et al. 2021, arXiv 2009.03300), the validation split.

The questions come in one of two forms, or from the Hugging Face Hub:

- a folder of the original files ``<subject>_val.csv``, whose columns are question, the four choices and the letter;
- a jsonl or Parquet file with ``question``, ``subject``, ``choices`` (four texts) and ``answer`` (0 to 3).

The ``file`` order is that of the paper's code: the subjects in sorted order, one after another, and then all 1,531
questions permuted by numpy's ``default_rng(888)``. The paper's 153 questions are the first of it: ``limit: 153``. With
fewer subjects the permutation is different.

``Item.data`` holds the choices by letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from harness.workloads.base import Grade, Item
from harness.workloads.grading.letters import final_letter
from harness.workloads.questions import QuestionFileSpec
from harness.workloads.sources import Row, Source, read_csv, read_rows
from kvcomm_core.files.published_files import HubFile

LETTERS = ("A", "B", "C", "D")

_PERMUTATION_SEED = 888
_CSV_END = "_val.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class MmluSpec(QuestionFileSpec):
    """Parameters of the ``mmlu`` workload."""

    source: ClassVar[Source] = Source(
        form="a folder of <subject>_val.csv files, or a jsonl or Parquet file",
        local=(Path("data/mmlu_val"), Path("data/mmlu_validation.parquet")),
        hub=HubFile(
            repo_id="cais/mmlu",
            filename="all/validation-00000-of-00001.parquet",
            revision="c30699e8356da336a370243923dbaf21066bb9fe",
        ),
    )

    name: Literal["mmlu"] = "mmlu"

    lookup: Literal["off", "wikipedia"] = "off"
    """Whether to look up the entities that the Knowledgeable Expert names. ``wikipedia`` needs the network, and
    keeps its results in ``~/.cache/kvcomm/wiki``. With ``off``, the agents read that nothing was found."""

    @property
    def looks_up(self) -> bool:
        """Whether the Knowledgeable Expert's entities are looked up."""
        return self.lookup == "wikipedia"

    def read(self, path: Path) -> list[Item]:
        """Read the questions of a file or folder, in the order of the paper's code."""
        by_subject = _csv_items(path) if path.is_dir() else _table_items(path)
        return [by_subject[index] for index in np.random.default_rng(_PERMUTATION_SEED).permutation(len(by_subject))]

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:  # noqa: ARG002 - runs no code
        """Compare the one letter that the answer gives, by the rules of ``letters.py``, with the expected one."""
        letter, rule = final_letter(answer, item.data)
        if letter is None:
            return Grade("unparsable", None, rule)
        return Grade("correct" if letter == item.expected else "wrong", letter, rule)


def _csv_items(folder: Path) -> list[Item]:
    items = []
    for path in sorted(folder.glob(f"*{_CSV_END}")):
        for index, row in enumerate(read_csv(path, ("question", *LETTERS, "answer"))):
            letter = row.text("answer").strip()
            if letter not in LETTERS:
                raise row.refuse("answer", ", ".join(LETTERS))
            subject = path.name.removesuffix(_CSV_END)
            items.append(_item(subject, index, row, [row.fields[letter] for letter in LETTERS], letter))
    if not items:
        raise ValueError(f"{folder}: no questions; allowed: a folder of <subject>{_CSV_END} files")
    return items


def _table_items(path: Path) -> list[Item]:
    items = []
    rows = sorted(read_rows(path), key=lambda row: row.text("subject"))
    for subject, group in groupby(rows, key=lambda row: row.text("subject")):
        for index, row in enumerate(group):
            choices, answer = row.fields.get("choices"), row.fields.get("answer")
            if not isinstance(choices, list) or len(choices) != 4 or not all(isinstance(text, str) for text in choices):
                raise row.refuse("choices", "a list of four texts")
            if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(LETTERS):
                raise row.refuse("answer", "0, 1, 2 or 3")
            items.append(_item(subject, index, row, choices, LETTERS[answer]))
    return items


def _item(subject: str, index: int, row: Row, choices: Sequence[str], expected: str) -> Item:
    by_letter = dict(zip(LETTERS, (text.strip() for text in choices), strict=True))
    lines = [row.text("question").strip(), *(f"{letter}) {text}" for letter, text in by_letter.items())]
    return Item(f"mmlu-{subject}-{index:03d}", "\n".join(lines), expected, LETTERS, by_letter)
