"""questions: your own questions, from a jsonl, CSV or Parquet file, answered by a team of your own or a built-in one.

A row has these fields, whose names may be others (``question_field`` and so on):

- ``question``: text.
- ``answer``: text or a number, as the grader needs it: a number for ``number``, a letter or the text of a choice for
  ``choice``. Optional with ``none`` and with graders from elsewhere.
- ``choices``, optional but for ``choice``: two to four texts, in CSV as a JSON list. They follow the question as lines
  ``A) ...``.
- ``id``, optional: text or a number, different in each row. By default an id is made of the question.

``Item.data`` holds the row's other fields, as texts or JSON, for graders from elsewhere; with ``choices`` it also holds
them by letter.

``graders.py`` defines the graders. The trial's team has to be named, since these questions have no agents of their own.
"""

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from harness.extensions import UnknownNameError
from harness.workloads.base import DataMissingError, Grade, Item
from harness.workloads.grading.graders import find_grader, grade_by, grader_version
from harness.workloads.grading.numbers import numerals
from harness.workloads.questions import QuestionFileSpec
from harness.workloads.sources import Row, read_table
from kvcomm_core.config import shown
from kvcomm_core.files.regular_files import open_regular
from kvcomm_core.files.strict_json import parse_json

LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionsSpec(QuestionFileSpec):
    """Parameters of the ``questions`` workload."""

    name: Literal["questions"] = "questions"

    path: str
    """The file."""

    grader: str
    """``exact``, ``contains``, ``number``, ``choice``, ``none``, a name that an installed package announces, or
    ``module:function``."""

    question_field: str = "question"
    """The name of the field with the question."""

    answer_field: str = "answer"
    """The name of the field with the answer."""

    choices_field: str = "choices"
    """The name of the field with the choices."""

    id_field: str = "id"
    """The name of the field with the id."""

    content: str | None = None
    """The first twelve hexadecimal digits of the SHA-256 of the file. A sweep sets it, so that an edited file makes new
    trials, and a copy that differs on another node is refused. None accepts any content."""

    def __post_init__(self) -> None:
        QuestionFileSpec.__post_init__(self)
        object.__setattr__(self, "grader", self.grader.removeprefix("python:"))  # the two mean the same
        try:
            find_grader(self.grader)
        except UnknownNameError as error:
            raise ValueError(f"workload.grader is {shown(self.grader)}; {error}") from None

    @property
    def team(self) -> str | None:
        """None: the trial names it."""
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of a grader from elsewhere."""
        version = grader_version(self.grader)
        return {} if version is None else {"grader_version": version}

    def available(self) -> str | None:
        """Return None if the file is there, else one line saying that it is not."""
        try:
            return None if Path(self.path).exists() else f"no such file: {self.path}"
        except OSError as error:
            return f"{shown(self.path)} cannot be looked for: {error.strerror}"

    def pinned(self) -> Self:
        """Return the workload with the digest of the file's present content, if the file can be read."""
        if self.content is not None:
            return self
        try:
            return replace(self, content=digest_of(self.path))
        except OSError:
            return self  # ``load`` says what is wrong

    def load(self, seed: int) -> list[Item]:
        """Return the first ``limit`` items of the file, in ``order``. Raise as ``Workload.load`` does."""
        if (missing := self.available()) is not None:
            raise DataMissingError(f"questions: {missing}. Set workload.path to a jsonl, CSV or Parquet file")
        if self.content is not None and (found := digest_of(self.path)) != self.content:
            allowed = f"{self.content}, the digest of the file for which the trial was planned"
            raise ValueError(f"{self.path}: its digest is {found}; allowed: {allowed}")
        path = Path(self.path)
        return self.choose(self.items_of(read_table(path)), seed, path)

    def item(self, index: int, row: Row) -> Item:  # noqa: ARG002 - the question identifies it
        """Read one question."""
        question, choices = row.text(self.question_field).strip(), self._choices(row)
        by_letter = dict(zip(LETTERS, choices, strict=False))
        question = "\n".join((question, *(f"{letter}) {text}" for letter, text in by_letter.items())))
        used = (self.question_field, self.answer_field, self.choices_field, self.id_field)
        others = {key: _as_text(value) for key, value in row.fields.items() if key not in used and value is not None}
        expected = self._expected(row, by_letter)
        return Item(self._id(row, question), question, expected, tuple(by_letter), {**others, **by_letter})

    def grade_answer(self, item: Item, answer: str, *, allow_unsafe: bool) -> Grade:  # noqa: ARG002 - runs no code
        """Grade an answer by the grader."""
        return grade_by(self.grader, item, answer)

    def _id(self, row: Row, question: str) -> str:
        given = row.fields.get(self.id_field)
        if given is None or given == "":
            return f"questions-{hashlib.sha256(question.encode()).hexdigest()[:8]}"
        if isinstance(given, bool) or not isinstance(given, str | int):
            raise row.refuse(self.id_field, "text or a whole number")
        return str(given)

    def _choices(self, row: Row) -> list[str]:
        given = row.fields.get(self.choices_field)
        if isinstance(given, str) and given.strip():
            try:
                given = parse_json(given)
            except ValueError:
                raise row.refuse(self.choices_field, "a list of two to four texts, in CSV as JSON") from None
        if (given is None or given == "") and self.grader != "choice":
            return []
        texts = given if isinstance(given, list) else []
        if not (2 <= len(texts) <= len(LETTERS) and all(isinstance(text, str) and text.strip() for text in texts)):
            raise row.refuse(self.choices_field, "a list of two to four texts, in CSV as JSON")
        return [text.strip() for text in texts]

    def _expected(self, row: Row, choices: dict[str, str]) -> str:
        given = row.fields.get(self.answer_field)
        if isinstance(given, int | float) and not isinstance(given, bool):
            given = str(given)
        if given is not None and not isinstance(given, str):
            raise row.refuse(self.answer_field, "text or a number")
        expected = (given or "").strip()
        match self.grader:
            case "number":
                found = numerals(expected)
                if len(found) != 1 or found[0].value is None:
                    raise row.refuse(self.answer_field, "one number")
                return found[0].text
            case "choice":
                same = [letter for letter, text in choices.items() if expected in (letter, text)]
                if len(same) != 1:
                    raise row.refuse(self.answer_field, f"{', '.join(choices)}, or the text of one of the choices")
                return same[0]
            case "exact" | "contains":
                if not expected:
                    raise row.refuse(self.answer_field, f"text that is not empty, with grader {self.grader}")
        return expected


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def digest_of(path: str) -> str:
    found = Path(path).stat()
    return _digest_at(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=100)  # each trial of a sweep asks for it
def _digest_at(path: str, _changed_ns: int, _size: int) -> str:
    with open_regular(Path(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
