"""aime: problems of the American Invitational Mathematics Examination; every answer is an integer from 0 to 999.

The paper does not say which problems it used. Its percentages match 120 items, and the examinations of 2022 to 2025
have 120 problems, so we use these; that they are the paper's is inferred, not known. They come from a jsonl or Parquet
file with the fields ``problem`` (or ``question``) and ``answer``, or from the Hub's ``allenai/aime-2022-2025``. Other
sets in that format, such as ``HuggingFaceH4/aime_2024``, can be given as a file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.workloads.base import Grade, Item
from harness.workloads.grading.numbers import grade_number
from harness.workloads.questions import QuestionFileSpec
from harness.workloads.sources import Row, Source
from kvcomm_core.files.published_files import HubFile


@dataclass(frozen=True, slots=True, kw_only=True)
class AimeSpec(QuestionFileSpec):
    """Parameters of the ``aime`` workload."""

    source: ClassVar[Source] = Source(
        form="a jsonl or Parquet file",
        local=(Path("data/aime.jsonl"),),
        hub=HubFile(
            repo_id="allenai/aime-2022-2025",
            filename="data/train-00000-of-00001.parquet",
            revision="73e1eba765ad5847cdb5d1e2e7aaf7b22b585798",
        ),
    )

    name: Literal["aime"] = "aime"

    def item(self, index: int, row: Row) -> Item:
        """Read one problem."""
        question = row.text("problem" if "problem" in row.fields else "question")
        answer = row.fields.get("answer")
        digits = str(answer).strip() if isinstance(answer, int | str) and not isinstance(answer, bool) else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10) or int(digits) > 999:
            raise row.refuse("answer", "an integer from 0 to 999")
        return Item(f"aime-{index:03d}", question.strip(), str(int(digits)))

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:  # noqa: ARG002 - runs no code
        """Compare the number the answer ends on, by the rules of ``numbers.py``, with the expected one: 033 is 33.

        A single number that cannot answer any AIME problem, such as -7 or 1/2, is wrong like any other.
        """
        return grade_number(item.expected, answer)
