"""gsm8k: grade-school mathematics word problems (Cobbe et al. 2021, arXiv 2110.14168), the 1,319 of the test split.

The problems come from a jsonl or Parquet file with the fields ``question`` and ``answer``, or from the Hugging Face
Hub; they are not part of this project. Grading is numeric and exact; ``numbers.py`` says which number of an answer
counts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.workloads.base import Grade, Item
from harness.workloads.grading.numbers import grade_number, numerals
from harness.workloads.questions import QuestionFileSpec
from harness.workloads.sources import Row, Source
from kvcomm_core.files.published_files import HubFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsm8kSpec(QuestionFileSpec):
    """Parameters of the ``gsm8k`` workload."""

    source: ClassVar[Source] = Source(
        form="a jsonl file",
        local=(Path("data/gsm8k_test.jsonl"),),
        hub=HubFile(
            repo_id="openai/gsm8k",
            filename="main/test-00000-of-00001.parquet",
            revision="740312add88f781978c0658806c59bc2815b9866",
        ),
    )

    name: Literal["gsm8k"] = "gsm8k"

    def item(self, index: int, row: Row) -> Item:
        """Read one problem."""
        question, answer = row.text("question"), row.text("answer")
        _, mark, end = answer.rpartition("####")
        found = numerals(end)
        if not mark or len(found) != 1 or found[0].value is None:
            raise row.refuse("answer", "text that ends with '#### N'")
        return Item(f"gsm8k-{index:04d}", question.strip(), found[0].text)

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:  # noqa: ARG002 - runs no code
        """Compare the number the answer ends on, by the rules of ``numbers.py``, with the expected one."""
        return grade_number(item.expected, answer)
