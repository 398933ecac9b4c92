r"""The letter that an answer to a multiple-choice question gives, read strictly.

The first rule that applies counts:

1. A *stated* answer, as ``statements.py`` finds it; "the correct option is" and "the best choice is" also state one.
   It must begin with the letter: ``C``, ``(C)``, ``option C``, ``probably C``. The text of that choice may follow, or a
   reason after punctuation or a word such as "because". Another letter before the reason makes it unparsable. The
   statement may also be exactly the text of one choice (``stated_text``). Otherwise nothing is extracted, because once
   an answer is stated, no other letter is a guess at it.
2. ``line``: a line that holds the letter alone.
3. ``first``: the text begins with ``C)``, ``(C)`` or ``C:``, or with ``C.`` and the text of that choice (``A. Smith``
   is a name).
4. ``choice_text``: the whole answer is the text of one choice.

A letter counts if it is a capital or in brackets. A letter with the text of another choice is unparsable. Texts of
choices are compared without regard to case, white space and punctuation at their ends.
"""

import re
from collections.abc import Mapping

from harness.workloads.grading.statements import last_statement

_MARKUP = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf)[ ]*\{([^{}]*)\}")
_OPTION_IS = re.compile(r"\b(?:option|choice)(?=[ \t]+is\b|[ \t]*:)", re.IGNORECASE)
_HEDGE = re.compile(
    r"(?:(?:the|most|likely|probably|definitely|clearly|therefore|option|choice|letter)\s+)+", re.IGNORECASE
)
_LETTER = re.compile(r"[\"']?(?:[(\[{]\s*(?P<bracketed>[A-Da-d])\s*[)\]}]|(?P<bare>[A-D])(?![\w'\u2019+#]))")
_OTHER = re.compile(r"(?<![\w'\u2019])(?:[BCD]|A(?!\s+[a-z]))(?![\w'\u2019])")
_REASON = re.compile(r"\s*[,;(]?\s*\b(?:because|since|as|for|due|which|so|given|where)\b", re.IGNORECASE)
_LINE = re.compile(r"^[ \t]*(?:\(([A-Da-d])\)|\[([A-Da-d])\]|([A-D])[ \t]*[.):]?)[ \t]*\.?[ \t]*$", re.MULTILINE)
_MARK = re.compile(
    r"^[ \t]*(?:\((?P<in>[A-Da-d])\)|(?P<before>[A-D])(?P<sign>[).:]))[ \t]+(?P<rest>\S.*)$", re.MULTILINE
)


def final_letter(answer: str, choices: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the letter ``answer`` gives and the rule that found it; None and the reason if there is no single letter.

    ``choices`` maps each letter to its text. Rules: ``answer_is``, ``boxed``, ``stated_text``, ``line``, ``first``,
    ``choice_text``. Reasons: ``no_letter``, ``no_letter_stated``, ``several_letters_stated``,
    ``letter_and_text_differ``.
    """
    text = _OPTION_IS.sub("answer", _plain(answer))
    texts = {letter: _key(choice) for letter, choice in choices.items()}
    statement = last_statement(text)
    if statement is not None:
        return _stated(statement.text, statement.rule, texts)
    lines = {(a or b or c).upper() for a, b, c in _LINE.findall(text)}
    marks = list(_MARK.finditer(text))
    marked = {(mark["in"] or mark["before"]).upper() for mark in marks}
    if len(lines | marked) > 1:
        return None, "several_letters_stated"
    if lines:
        return lines.pop(), "line"
    if marks and marks[0].start() == 0:
        return _first(marks[0], marked.pop(), texts)
    same = [letter for letter, choice in texts.items() if choice and choice == _key(text)]
    return (same[0], "choice_text") if len(same) == 1 else (None, "no_letter")


def _stated(text: str, rule: str, texts: Mapping[str, str]) -> tuple[str | None, str]:
    same = [letter for letter, choice in texts.items() if choice and choice == _key(text)]
    hedge = _HEDGE.match(text)
    mark = _LETTER.match(text, hedge.end() if hedge else 0)
    if mark is None:
        if len(same) == 1:
            return same[0], "stated_text"
        return None, "several_letters_stated" if len(set(_OTHER.findall(text))) > 1 else "no_letter_stated"
    letter, rest = (mark["bracketed"] or mark["bare"]).upper(), text[mark.end() :]
    if _key(rest) in texts.values() and _key(rest):
        return (letter, rule) if texts.get(letter) == _key(rest) else (None, "letter_and_text_differ")
    rest = _REASON.split(rest, maxsplit=1)[0]
    if set(_OTHER.findall(rest)) - {letter}:
        return None, "several_letters_stated"
    # "A good guess" does not begin with the letter of a choice.
    if mark["bare"] and re.match(r"\s+\w", rest):
        return None, "no_letter_stated"
    return letter, rule


def _first(mark: re.Match[str], letter: str, texts: Mapping[str, str]) -> tuple[str | None, str]:
    rest = _key(mark["rest"])
    if rest in texts.values() and texts.get(letter) != rest:
        return None, "letter_and_text_differ"
    own = texts.get(letter)
    if mark["sign"] == "." and not (own and rest.startswith(own)):
        return None, "no_letter"
    return letter, "first"


def _plain(text: str) -> str:
    """Strip the Markdown and LaTeX markup that may surround a letter."""
    return re.sub(r"\\[()\[\]]|[*$`]", "", _MARKUP.sub(r"\1", text)).strip()


def _key(text: str) -> str:
    """Return a key that two spellings of the same choice share."""
    return " ".join(_plain(text).casefold().split()).strip(" .,:;!?()[]\"'-\u2013\u2014")
