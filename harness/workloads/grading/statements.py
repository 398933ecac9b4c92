r"""The final answer that a text states: the text after "the answer is", after ``####``, or in ``\boxed{}``.

The last statement of the text counts, because a model may change its mind. It is one of

- ``answer_is``: ``answer is ...``, ``answer: ...`` or ``answer = ...``, up to the end of the sentence or of the line,
  but not inside ``\boxed{...}``, ``\(...\)``, ``\[...\]`` or ``$$...$$``. Up to two line ends may come before it.
- ``hashes``: ``#### ...``, if it begins like a number; otherwise it is a heading.
- ``boxed``: the content of ``\boxed{...}``, its braces balanced, nested up to eight deep.
"""

import re
from dataclasses import dataclass

_BRACED = r"(?:[^{}\\]|\\[\s\S])"
for _ in range(8):
    _BRACED = rf"(?:[^{{}}\\]|\\[\s\S]|\{{{_BRACED}*+\}})"
_CONTENT = rf"{_BRACED}*+"


def up_to(opening: str, closing: str) -> str:
    r"""Return a pattern for the text between ``\opening`` and ``\closing``, which do not nest in LaTeX.

    Without it, a search in a text of nothing but ``\(`` would run to the end from each of them.
    """
    return rf"(?:(?!\\[{re.escape(opening + closing)}])[\s\S])*+"


BOXED = re.compile(rf"\\boxed[ \t]*\{{(?P<boxed>{_CONTENT})\}}")

_STATED = re.compile(
    rf"""
    \b(?i:answer)[ \t]*(?:(?i:is)\b[ \t]*:?|[:=])(?:[ \t]*\n){{0,2}}[ \t]*
        (?P<answer_is>(?:
            \\boxed[ \t]*\{{{_CONTENT}\}} | \\\({up_to("(", ")")}\\\) | \\\[{up_to("[", "]")}\\\] | \$\$[\s\S]*?\$\$
            | (?![.?](?:\s|$) | !(?:\s+[A-Z]|\s*$)) [^\n]
        )*+)
    | ^\#{{4}}[ \t]*(?=[-\u2212$€£¥.\d])(?P<hashes>.*)
    | {BOXED.pattern}
    """,
    re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A final answer, as written in the text."""

    rule: str
    """``answer_is``, ``hashes`` or ``boxed``."""

    text: str
    """The stated text, without the words or the box around it."""

    start: int
    """Index at which the statement begins."""


def last_statement(text: str) -> Statement | None:
    """Return the last statement in ``text``; None if there is none."""
    found = list(_STATED.finditer(text))
    if not found:
        return None
    last = found[-1]
    rule = last.lastgroup
    assert rule is not None  # noqa: S101 - each alternative of the pattern is one named group
    return Statement(rule, last[rule].strip(), last.start())
