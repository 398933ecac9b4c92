"""Graders by name: functions from an answer and its item to a grade.

The built-in ones:

- ``exact``: the stated answer (``statements.py``), or the whole answer if it states none, is the expected text. Both
  are compared after Unicode normalisation (NFKC), without regard to case, kinds and amounts of white space, and
  punctuation at the ends.
- ``contains``: the expected text stands in the answer as whole words, by the same comparison.
- ``number``: the number that the answer ends on is the expected one, by the rules of ``numbers.py``.
- ``choice``: the letter that the answer gives is the expected one, by the rules of ``letters.py``. ``Item.data`` holds
  the choices by letter.
- ``none``: answers are not graded; their outcome is None.

A grader elsewhere is named as ``module:function``, or by the name under which an installed package announces it (group
``kvcomm.graders``). It is called with the answer and the ``Item``, and returns
whether the answer is right, or a ``Grade``. It runs in the process of the trial and is trusted as the sweep file is.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Final, cast

from harness.extensions import UnknownNameError, find, version_of
from harness.workloads.base import Grade, Item
from harness.workloads.grading.letters import final_letter
from harness.workloads.grading.numbers import grade_number
from harness.workloads.grading.statements import last_statement
from kvcomm_core.config import shown

Grader = Callable[[str, Item], bool | Grade]

GROUP: Final = "graders"

BUILT_IN: Final = {name: f"{__name__}:{name}" for name in ("exact", "contains", "number", "choice", "none")}

_BEFORE = re.compile(r"[^\w+$€£¥%-]+")
_AFTER = re.compile(r"[^\w%]+")
"""Punctuation before and after an answer, the latter read backwards."""

_MOST_EXTRACTED = 1000
"""The most characters of an answer that count as extracted where a grader extracts nothing itself."""


def find_grader(name: str) -> Grader:
    """Return the grader of that name. Raise ``UnknownNameError`` if there is none."""
    found = find(GROUP, name, BUILT_IN, form="module:function")
    if not callable(found):
        raise UnknownNameError(f"it is no function; allowed: {', '.join(BUILT_IN)}, or module:function")
    return cast("Grader", found)


def grader_version(name: str) -> str | None:
    """Return the version of a plug-in, or None for a built-in grader."""
    return version_of(GROUP, name, BUILT_IN)


def grade_by(name: str, item: Item, answer: str) -> Grade:
    """Grade an answer by the grader of that name. If it fails, the answer is unparsable by ``grader_failed``."""
    grader = find_grader(name)
    try:
        found = grader(answer, item)
        if isinstance(found, Grade):
            return found
        if isinstance(found, bool):
            return Grade("correct" if found else "wrong", answer.strip()[:_MOST_EXTRACTED], name)
        raise TypeError(f"{name} returned {shown(found)}; allowed: true, false or a Grade")
    except Exception as error:  # noqa: BLE001 - a plug-in may fail with anything
        return Grade("unparsable", None, f"grader_failed: {type(error).__name__}")


def exact(answer: str, item: Item) -> Grade:
    """Compare the stated or the whole answer. Rules: those of ``statements.py``, ``whole``; reason: ``no_answer``."""
    statement = last_statement(answer)
    said, rule = (answer, "whole") if statement is None else (statement.text, statement.rule)
    plain = normalized(said)
    if not plain:
        return Grade("unparsable", None, "no_answer")
    return Grade("correct" if plain == normalized(item.expected) else "wrong", plain[:_MOST_EXTRACTED], rule)


def contains(answer: str, item: Item) -> Grade:
    """Look for the expected text. Rule: ``contains``; reason: ``no_answer``."""
    plain, expected = normalized(answer), normalized(item.expected)
    if not plain:
        return Grade("unparsable", None, "no_answer")
    if re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", plain):
        return Grade("correct", expected, "contains")
    return Grade("wrong", plain[:_MOST_EXTRACTED], "contains")


def number(answer: str, item: Item) -> Grade:
    """Compare the number that the answer ends on; see ``numbers.py``."""
    return grade_number(item.expected, answer)


def choice(answer: str, item: Item) -> Grade:
    """Compare the letter that the answer gives; see ``letters.py``. One more reason: ``no_such_choice``."""
    letter, rule = final_letter(answer, item.data)
    if letter is None or letter not in item.candidates:
        return Grade("unparsable", None, rule if letter is None else "no_such_choice")
    return Grade("correct" if letter == item.expected else "wrong", letter, rule)


def none(answer: str, item: Item) -> Grade:  # noqa: ARG001 - called like all graders
    """Do not grade."""
    return Grade(None, None, "ungraded")


def normalized(text: str) -> str:
    """Return a key that two spellings of the same answer share."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    folded = folded[_end_of(_BEFORE, folded) :]
    return folded[: len(folded) - _end_of(_AFTER, folded[::-1])]


def _end_of(pattern: re.Pattern[str], text: str) -> int:
    """Return the length of what the pattern matches at the start. A search for an end would take quadratic time."""
    found = pattern.match(text)
    return found.end() if found else 0
