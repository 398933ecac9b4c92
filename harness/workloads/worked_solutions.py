"""Worked solutions in the form of GSM8K, and copies of them with one mistake.

A solution is text whose steps are annotated with ``<<16-3-4=9>>`` and whose last line is ``#### N``. A wrong copy has
the result of one step changed. The later steps are worked out again with the wrong number, so that the mistake is
carried through and the last line agrees with the steps. Where the numbers of the later steps cannot be followed, only
the last line and the line before it change. Which numbers of a text are the wrong result is decided by their value, so
a copy may also change a number that happens to be equal: it is a wrong solution in any case, since its last line
differs.
"""

import ast
import operator
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

_STEP = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
_NUMERAL = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|[.,]\d)")
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LONGEST = 200
"""Maximum length of an annotation's arithmetic, in characters; those of GSM8K have up to some 60."""

_CHANGES = (1, -1, 2, -2, 5, 10, -10)
"""What a mistake adds to the result of a step; it may also double the result."""

Changed = dict[Fraction, Fraction]
"""The wrong number that takes the place of each right one, from the mistake on."""


@dataclass(frozen=True, slots=True)
class WorkedSolution:
    """A solution: its text with annotations, and its final number."""

    text: str
    final: str
    """As written, after ``####``."""

    @property
    def plain(self) -> str:
        """The text for readers, without annotations, with the final number in a sentence."""
        return _plain(self.text, self.final)

    def wrong_copies(self, count: int, rng: random.Random) -> list[str]:
        """Return ``count`` texts like ``plain``, each with one mistake and another final number.

        Raise ``ValueError`` if the final number is none, or too odd to be mistaken for another.
        """
        steps = list(_STEP.finditer(self.text))
        mistakes: list[tuple[int | None, int | None]] = [
            (step, change) for step in range(len(steps)) for change in (*_CHANGES, None)
        ]
        rng.shuffle(mistakes)
        in_last_line = [(None, change) for change in (*_CHANGES, None)]
        rng.shuffle(in_last_line)
        found: dict[Fraction, str] = {}
        for step, change in [*mistakes, *in_last_line, *((None, 10 + more) for more in range(1, count + 1))]:
            copy = self._with_mistake(steps, step, change)
            if copy is not None:
                found.setdefault(*copy)
            if len(found) == count:
                break
        if len(found) < count:
            raise ValueError(f"final is {self.final!r}; allowed: a number with two decimals at most")
        return list(found.values())

    def _with_mistake(
        self, steps: list[re.Match[str]], wrong: int | None, change: int | None
    ) -> tuple[Fraction, str] | None:
        """Return the final number and the text with the result of a step changed, or with None only the last line and
        the one before it. None if that leaves the final number as it is, or makes it something odd."""
        right = _value(self.final)
        if wrong is None:
            new = _changed(right, change)
            start = self.text.rstrip().rfind("\n") + 1
            text = self.text[:start] + _replace(self.text[start:], {right: new}) if _is_usual(new) else ""
            return (new, _plain(text, _written(new, like=self.final))) if text and new != right else None
        carried = _carry(self.text, steps, wrong, change)
        if carried is None or carried[0].get(right, right) == right:
            return None
        final = carried[0][right]
        return final, _plain(carried[1], _written(final, like=self.final))


def _carry(text: str, steps: list[re.Match[str]], wrong: int, change: int | None) -> tuple[Changed, str] | None:
    """Return the text with the result of a step changed and carried through, and what was changed; None if the
    arithmetic of a later step cannot be followed."""
    changed: Changed = {}
    parts = [text[: steps[wrong].end()]]
    for index, step in enumerate(steps[wrong:], start=wrong):
        try:
            right = _value(step[2])
            new = _changed(right, change) if index == wrong else _evaluate(_replace(step[1], changed))
        except (ValueError, SyntaxError, ArithmeticError):
            return None
        if not _is_usual(new):
            return None
        if new != right:
            changed[right] = new
        until = steps[index + 1].start() if index + 1 < len(steps) else len(text)
        parts.append(_replace(text[step.end() : until], changed))
    return changed, "".join(parts)


def _replace(text: str, changed: Changed) -> str:
    """Return a text with the numbers changed, wherever they stand outside of words."""

    def new(found: re.Match[str]) -> str:
        value = _value(found[0])
        return _written(changed[value], like=found[0]) if value in changed else found[0]

    return _NUMERAL.sub(new, text)


def _changed(right: Fraction, change: int | None) -> Fraction:
    return 2 * right if change is None else right + change


def _value(numeral: str) -> Fraction:
    return Fraction(numeral.replace(",", "").strip())


def _is_usual(value: Fraction) -> bool:
    """Return whether a number is positive, and has two decimals at most."""
    return value > 0 and (value * 100).denominator == 1


def _written(value: Fraction, like: str) -> str:
    """Return a number as text, with thousands commas if there are some in ``like``."""
    comma = "," if "," in like else ""
    return f"{value.numerator:{comma}}" if value.denominator == 1 else f"{float(value):{comma}.2f}"


def _plain(text: str, final: str) -> str:
    return f"{_STEP.sub('', text).strip()}\nThe answer is {final}"


def _evaluate(arithmetic: str) -> Fraction:
    """Return the value of sums, products and brackets. Raise ``ValueError``, ``SyntaxError`` or ``ArithmeticError``."""
    if len(arithmetic) > _LONGEST:
        raise ValueError(f"{len(arithmetic)} characters; allowed: {_LONGEST}")
    return _node_value(ast.parse(arithmetic.replace(",", "").strip(), mode="eval").body)


def _node_value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Fraction(str(value))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_node_value(left), _node_value(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_node_value(operand)
    raise ValueError("no arithmetic")
