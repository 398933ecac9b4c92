r"""The mathematical expression that an answer states, as LaTeX, read strictly.

Only a *stated* answer counts, as ``statements.py`` finds it, or an answer that is nothing but one expression
(``bare``). Within the statement, the first case that applies counts:

1. The content of ``\boxed{...}``. Two boxes with different contents in one line are unparsable.
2. The mathematics in ``$...$``, ``\(...\)``, ``\[...\]``. Several form one list if only commas, "and" or "or" stand
   between them, and are unparsable otherwise. "The value" or the like may come before, and units or a reason after;
   "not $5$" and "$5$ or 6" are unparsable.
3. The plain text, if it has no words, or no words but units after a number (``5 square cm``), which are dropped.
   Text of words alone (``Evelyn``) becomes ``\text{...}``. Other mixtures of words and numbers are unparsable.
"""

import itertools
import re

from harness.workloads.grading.statements import BOXED, last_statement, up_to

_BOLD = re.compile(r"(?<![\w)}])\*\*(\S(?:[^*\n]*\S)?)\*\*(?![\w(])")
_MATH = re.compile(
    rf"\$\$(.+?)\$\$|\\\[(?!\\\])({up_to('[', ']')})\\\]|\\\((?!\\\))({up_to('(', ')')})\\\)"
    r"|(?<!\\)\$([^$\n]+?)(?<!\\)\$",
    re.DOTALL,
)
_BETWEEN = re.compile(r"\s*(?:,|;)?\s*(?:and|or)?\s*")
_BEFORE = re.compile(
    r"\s*(?:(?:exactly|simply|therefore|thus|equal to|the \w+)[ ])?\s*(?:[A-Za-z]\s*=\s*)?:?\s*", re.IGNORECASE
)
_REASON = re.compile(r"[,;]?\s*\b(?:because|since|as|so|which)\b.*", re.IGNORECASE | re.DOTALL)
_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mbox)[ ]*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"(?<![A-Za-z\d])[A-Za-z]{2,}")
_UNITS = r"(?:[A-Za-z\u00b0%][A-Za-z. /\u00b0]*(?:\^\{?[23]\}?|[\u00b2\u00b3])?)"
_QUANTITY = re.compile(rf"(?P<number>[^A-Za-z]*\d[^A-Za-z]*)[ ]{_UNITS}")
_AFTER = re.compile(rf"\s*{_UNITS}?[\s.,;:!?]*")
_NO_UNITS = re.compile(
    r"\b(?:or|and|to|but|not|if|when|unless|more|less|than|times|plus|minus|over"
    r"|dozen|hundred|thousand|million|billion|trillion)\b",
    re.IGNORECASE,
)
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)[ ]*\{([^{}]*)\}")


def stated_expression(answer: str) -> tuple[str | None, str]:
    """Return the expression ``answer`` states and the rule that found it; None and the reason if there is no single
    one.

    Rules: ``answer_is``, ``hashes``, ``boxed``, ``bare``. Reasons: ``no_expression`` (nothing is stated),
    ``no_expression_stated``, ``several_expressions_stated``, ``words_and_numbers_stated``.
    """
    text = _BOLD.sub(r"\1", answer).strip()
    statement = last_statement(text)
    if statement is None:
        found, _ = _plain(text)
        # An answer with prose around the expression, a single word or a box that is cut off does not count.
        alone = "\n" not in text and not _WORD.search(_COMMAND.sub(" ", _MATH.sub(" ", text)))
        return (found, "bare") if found and alone and "\\boxed" not in found else (None, "no_expression")
    stated = statement.text
    if statement.rule == "boxed":
        stated = text[text.rfind("\n", 0, statement.start) + 1 :]
    boxes = {box["boxed"].strip() for box in BOXED.finditer(stated)}
    if len(boxes) > 1:
        return None, "several_expressions_stated"
    found, reason = (boxes.pop(), "") if boxes else _plain(stated)
    if not found:
        return None, reason or "no_expression_stated"
    return found, statement.rule


def words_of(expression: str) -> str | None:
    r"""Return the words of an expression of words alone, lower case, such as ``\text{(C)}`` or ``\text{Evelyn}``.

    Return None for every other expression, including a single letter outside ``\text``.
    """
    outside = _TEXT.sub(" ", expression)
    inside = " ".join(_TEXT.findall(expression))
    if re.search(r"[^\s(),.]", outside) or not re.search("[A-Za-z]", inside) or re.search(r"\d", inside):
        return None
    return bare_words(inside)


def bare_words(text: str) -> str:
    """Return ``text`` in lower case, without punctuation and brackets."""
    return " ".join(re.sub(r"[^\w\s-]", " ", text).casefold().split())


def _plain(text: str) -> tuple[str | None, str]:
    """Return the expression of a text without boxes, or None and the reason."""
    maths = list(_MATH.finditer(text))
    if maths:
        between = [text[one.end() : next_.start()] for one, next_ in itertools.pairwise(maths)]
        if not all(_BETWEEN.fullmatch(gap) for gap in between):
            return None, "several_expressions_stated"
        before, after = text[: maths[0].start()], _REASON.sub("", text[maths[-1].end() :])
        if not _BEFORE.fullmatch(before) or not _AFTER.fullmatch(after) or _NO_UNITS.search(after):
            return None, "words_and_numbers_stated"
        return ", ".join(one[one.lastindex or 0].strip() for one in maths), ""
    text = re.sub(r"^[$€£¥](?=[-\d.])", "", text.strip().rstrip(".,;:!? ").strip("\"'"))
    if not text:
        return None, "no_expression_stated"
    if not _WORD.search(_COMMAND.sub(" ", text)):
        return text, ""
    quantity = _QUANTITY.fullmatch(text)
    if quantity and not _NO_UNITS.search(text):
        return quantity["number"].strip(), ""
    if re.fullmatch(r"[A-Za-z][A-Za-z ,'-]*", text):
        return rf"\text{{{text}}}", ""
    return None, "words_and_numbers_stated"
