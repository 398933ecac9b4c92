"""Conditions on the numbers of a comparison, such as ``accuracy_change < -2 or ttft_ratio > 1.1``.

The language is a small part of Python: the names below, numbers, ``+ - * /``, comparisons, ``and``, ``or``, ``not`` and
parentheses. Python parses a condition but never runs it.

A number may be unknown. A comparison with it is unknown too, and so is the condition unless its other parts decide it:
``unknown or true`` is true, ``unknown and false`` is false.
"""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping

from kvcomm_core.config import shown

Number = int | float
Numbers = Mapping[str, Number | None]
"""Numbers by name; None is unknown."""
Condition = Callable[[Numbers], bool | None]
"""Returns whether the condition holds, or None if that is unknown."""

SIDES = {
    "accuracy": "correct answers, in percent",
    "reuse": "reused prompt tokens, in percent",
    "ttft_p50": "median time to the first token over all turns, in ms",
    "kl": "mean KL to dense of the next token, in nats",
    "speedup": "median of dense TTFT by TTFT, over the turns that reused anything",
}
"""Measures of each side; names get the suffix ``_a`` or ``_b``."""

CHANGES = {
    "accuracy_change": "B minus A on the same items, in percentage points",
    "reuse_change": "B minus A on the same turns, in percentage points",
    "ttft_ratio": "median of B by A of the same turn",
    "kl_change": "B minus A on the same turns, in nats",
    "kl_ratio": "B by A on the same turns",
    "speedup_ratio": "median of B by A of the same turn",
}
"""Changes between the sides; ``_low`` and ``_high`` are the ends of the 95 % interval."""

NAMES = (
    *(f"{name}_{side}" for name in SIDES for side in "ab"),
    *(f"{name}{end}" for name in CHANGES for end in ("", "_low", "_high")),
)
"""All names that a condition may use."""

LONGEST = 500
"""Longest condition in characters. The limit also bounds the nesting."""

_ARITHMETIC: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Number, Number], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_LANGUAGE = "allowed: comparisons of numbers and names, + - * /, and, or, not"


class ExpressionError(ValueError):
    """Text that is not a condition; the message says where it fails and what is allowed."""


def parse(text: str) -> Condition:
    """Parse a condition. Raises ``ExpressionError``."""
    if len(text) > LONGEST:
        raise ExpressionError(f"{len(text)} characters long; allowed: {LONGEST} or fewer")
    try:
        with warnings.catch_warnings(action="ignore"):  # Python warns about 1if or 2in
            tree = ast.parse(text.strip(), mode="eval")
        return _condition(tree.body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # ValueError: a null character
        if isinstance(error, ExpressionError):
            raise
        reason = error.msg if isinstance(error, SyntaxError) else "not readable"
        raise ExpressionError(f"{shown(text)}: {reason}; {_LANGUAGE}") from None


def _condition(node: ast.expr) -> Condition:
    match node:
        case ast.BoolOp(op=op, values=values):
            decisive = isinstance(op, ast.Or)  # one value like this decides, whatever the others are
            return _joined([_condition(value) for value in values], decisive)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _condition(operand)
            return lambda numbers: None if (holds := inner(numbers)) is None else not holds
        case ast.Compare(left=left, ops=ops, comparators=comparators) if _COMPARISONS.keys() >= set(map(type, ops)):
            terms = [_term(one) for one in (left, *comparators)]
            links = [
                _compared(_COMPARISONS[type(op)], first, second)
                for op, first, second in zip(ops, terms[:-1], terms[1:], strict=True)
            ]
            return links[0] if len(links) == 1 else _joined(links, False)
    raise ExpressionError(f"{shown(ast.unparse(node))} is no condition; {_LANGUAGE}")


def _term(node: ast.expr) -> Callable[[Numbers], Number | None]:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            number = _finite(value)
            return lambda _: number
        case ast.Name(id=name):
            if name not in NAMES:
                raise ExpressionError(f"{name!r} is not known; allowed: {', '.join(NAMES)}")
            return lambda numbers: numbers[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            inner = _term(operand)
            if isinstance(sign, ast.UAdd):
                return inner
            return lambda numbers: None if (value := inner(numbers)) is None else -value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _reckoned(_ARITHMETIC[type(op)], _term(left), _term(right))
    raise ExpressionError(f"{shown(ast.unparse(node))} is no number; {_LANGUAGE}")


def _finite(value: Number) -> float:
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if math.isinf(number):
        raise ExpressionError("a number is too large; allowed: finite numbers")
    return number


def _joined(parts: list[Condition], decisive: bool) -> Condition:
    def holds(numbers: Numbers) -> bool | None:
        found = [part(numbers) for part in parts]
        if decisive in found:
            return decisive
        return None if None in found else not decisive

    return holds


def _compared(
    compare: Callable[[Number, Number], bool],
    first: Callable[[Numbers], Number | None],
    second: Callable[[Numbers], Number | None],
) -> Condition:
    def holds(numbers: Numbers) -> bool | None:
        left, right = first(numbers), second(numbers)
        return None if left is None or right is None else compare(left, right)

    return holds


def _reckoned(
    reckon: Callable[[Number, Number], Number],
    first: Callable[[Numbers], Number | None],
    second: Callable[[Numbers], Number | None],
) -> Callable[[Numbers], Number | None]:
    def value(numbers: Numbers) -> Number | None:
        left, right = first(numbers), second(numbers)
        if left is None or right is None:
            return None
        try:
            result = reckon(left, right)
        except (ZeroDivisionError, OverflowError):
            return None
        return result if math.isfinite(result) else None

    return value
