r"""The number that a free-text answer ends on, read strictly.

The first rule that applies counts:

1. A *stated* answer, as ``statements.py`` finds it. In an equation, only the part after the last ``=`` counts. It must
   hold one number, or the same one twice. Otherwise nothing is extracted, because once an answer is stated, no other
   number is a guess at it.
2. ``last_number``: the last number of the text.

A number is digits with an optional sign directly before them, thousands commas in groups of exactly three without
spaces (``1,000``), a decimal part, or a fraction ``a/b``. Currency and percent signs, units and a closing period may
surround it and change nothing: 50% is 50. Some digits are not numbers:

- Digits joined in other ways are unreadable: dates (2024-05-01), ranges (10-12), times (3:30), 1.2.3, 1,2, 5x3, 1/0.
  So are more than 1,000 digits.
- Digits in words and ordinals (B12, COVID-19, 3rd) and the number of a list entry (``2. Then ...``) are skipped.

Not resolved: number words, mixed numbers (2 1/2 is two numbers), a date written 5/12 (a fraction).
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from harness.workloads.base import Grade
from harness.workloads.grading.statements import last_statement

_LIST_ENTRY = re.compile(r"^([ \t#>]*)\d+[.)](?=[ \t]+\S)", re.MULTILINE)
_DIGITS = re.compile(
    r"""
    (?P<sign>(?<![\w)\]])[-\u2212])?           # not a dash between two numbers or words
    (?:\\?[$€£¥])?
    (?P<inner_sign>(?<=[$€£¥])[-\u2212])?      # $-5
    (?<!\w)(?<!\w\.)(?<![^\W\d]-)         # not inside a word, a longer numeral or COVID-19
    (?P<body>\d+(?:[.,:/\u2013-]\d+)*|\.\d+)
    (?P<suffix>[^\W\d]\w*)?               # a unit, or the ending of an ordinal
    """,
    re.VERBOSE,
)
_MAX_CHARACTERS = 1000
"""Maximum length of a number. Python converts at most 4,300 digits, in quadratic time."""

_NUMBER = re.compile(r"(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?|\.\d+|\d+/0*[1-9]\d*")


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits found in a text."""

    text: str
    """As written, with its sign, without currency or unit."""

    value: Fraction | None
    """None where the digits are not a number."""


def final_number(answer: str) -> tuple[Numeral | None, str]:
    """Return the number ``answer`` ends on and the rule that found it; None and the reason if there is no single
    number.

    Rules: ``answer_is``, ``hashes``, ``boxed``, ``last_number``. Reasons: ``no_number``, ``no_number_stated``,
    ``several_numbers_stated``, ``not_a_number``.
    """
    text = _LIST_ENTRY.sub(r"\1", answer.replace("**", " "))
    statement = last_statement(text)
    if statement is None:
        found = numerals(text)
        if not found:
            return None, "no_number"
        return (found[-1], "last_number") if found[-1].value is not None else (None, "not_a_number")
    found = numerals(statement.text.rpartition("=")[2])
    if not found:
        return None, "no_number_stated"
    if len({numeral.value for numeral in found}) > 1:
        return None, "several_numbers_stated"
    return (found[-1], statement.rule) if found[-1].value is not None else (None, "not_a_number")


def grade_number(expected: str, answer: str) -> Grade:
    """Grade whether the number ``answer`` ends on equals ``expected``, which is a number itself."""
    found, rule = final_number(answer)
    if found is None:
        return Grade("unparsable", None, rule)
    [reference] = numerals(expected)
    return Grade("correct" if found.value == reference.value else "wrong", found.text, rule)


def numerals(text: str) -> list[Numeral]:
    """Return all digits in ``text`` that stand alone, in order."""
    found = []
    for match in _DIGITS.finditer(text):
        suffix = match["suffix"] or ""
        if suffix.lower() in ("st", "nd", "rd", "th"):
            continue
        sign = "-" if match["sign"] or match["inner_sign"] else ""
        is_number = (
            len(match["body"]) <= _MAX_CHARACTERS
            and _NUMBER.fullmatch(match["body"]) is not None
            and not re.search(r"\d", suffix)
        )
        value = Fraction(sign + match["body"].replace(",", "")) if is_number else None
        found.append(Numeral(sign + match["body"], value))
    return found
