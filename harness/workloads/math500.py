r"""math500: 500 competition problems of the MATH test set (Hendrycks et al. 2021, arXiv 2103.03874; chosen by Lightman
et al. 2023, arXiv 2305.20050), whose answers are LaTeX expressions.

The problems come from a jsonl or Parquet file with the fields ``problem``, ``answer`` and ``unique_id`` (``subject``
and ``level`` are not used), or from the Hugging Face Hub.

``expressions.py`` defines which part of an answer counts. It is correct if it equals the reference up to white space,
or equals it by math-verify: 1/2 is 0.5, 50\% is 50 and 0.5, (x+1)^2 is x^2+2x+1, a decimal must agree in six places, an
ordered pair may lack its brackets, and an unfinished sum such as 2+2 is 4. Units and the base of a numeral are not
compared. A reference in words (``\text{Evelyn}``) is compared as words, without regard to case.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.workloads.base import Grade, Item
from harness.workloads.grading.equivalence import compare
from harness.workloads.grading.expressions import bare_words, stated_expression, words_of
from harness.workloads.questions import QuestionFileSpec
from harness.workloads.sources import Row, Source
from kvcomm_core.files.published_files import HubFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Math500Spec(QuestionFileSpec):
    """Parameters of the ``math500`` workload."""

    source: ClassVar[Source] = Source(
        form="a jsonl or Parquet file",
        local=(Path("data/math500_test.jsonl"),),
        hub=HubFile(
            repo_id="HuggingFaceH4/MATH-500",
            filename="test.jsonl",
            revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        ),
    )

    name: Literal["math500"] = "math500"

    def item(self, index: int, row: Row) -> Item:  # noqa: ARG002 - the row has an id
        """Read one problem."""
        return Item(f"math500-{row.text('unique_id')}", row.text("problem").strip(), row.text("answer").strip())

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:  # noqa: ARG002 - runs no code
        """Compare the expression that the answer states with the expected one.

        Rules are those of ``expressions.py``. Further reasons for ``unparsable`` are ``words_stated`` (words where the
        reference has none), ``not_an_expression`` and ``comparison_gave_up``. The outcome is ``error`` if math-verify
        cannot read the reference, because then only identical text could be graded as correct.
        """
        stated, rule = stated_expression(answer)
        if stated is None:
            return Grade("unparsable", None, rule)
        if "".join(stated.split()) == "".join(item.expected.split()):
            return Grade("correct", stated, rule)
        expected_words, words = words_of(item.expected), words_of(stated)
        if expected_words is not None:
            same = expected_words in (words, bare_words(stated))
            return Grade("correct" if same else "wrong", stated, rule)
        if words is not None:
            return Grade("unparsable", stated, "words_stated")
        verdict = compare(item.expected, stated)
        if verdict == "equal":
            return Grade("correct", stated, rule)
        if verdict == "different":
            return Grade("wrong", stated, rule)
        if verdict == "reference_unreadable":
            return Grade("error", stated, verdict)
        return Grade("unparsable", stated, "comparison_gave_up" if verdict == "gave_up" else "not_an_expression")
