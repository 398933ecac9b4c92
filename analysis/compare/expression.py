"""Conditions on the numbers of a comparison, such as ``accuracy_change < -2 or ttft_ratio > 1.1``.

The language is a small part of Python: the names below, numbers, ``+ - * /``, comparisons, ``and``, ``or``, ``not`` and
parentheses. Python parses a condition but never runs it. Unknown numbers are ``pandas.NA``, whose logic is Kleene's:
``unknown or true`` is true, ``unknown and false`` is false. ``pandas.eval`` would take 1 / 0 for an infinite number, so
that a check would fire on a ratio that nobody knows; here it is unknown.
"""

import ast
import math
import operator
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import pandas as pd

from kvcomm_core.config import shown

Numbers = Mapping[str, float | None]
"""Numbers by name; None is unknown."""
Condition = Callable[[Numbers], bool | None]
"""Returns whether the condition holds, or None if that is unknown."""

NAMES = (
    *(f"{name}_{side}" for name in ("accuracy", "reuse", "ttft_p50", "kl", "speedup") for side in "ab"),
    *(f"{name}_change{end}" for name in ("accuracy", "reuse", "kl") for end in ("", "_low", "_high")),
    *(f"{name}_ratio{end}" for name in ("ttft", "kl", "speedup") for end in ("", "_low", "_high")),
)
"""All names that a condition may use: fields of ``CellChange``, and the ends of the 95 % intervals of changes."""

LONGEST = 500
"""Longest condition in characters. The limit also bounds the nesting."""

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.And: operator.and_, ast.Or: operator.or_,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_LANGUAGE = "allowed: comparisons of numbers and names, + - * /, and, or, not"


class ExpressionError(ValueError):
    """Text that is not a condition; the message says where it fails and what is allowed."""


def parse(text: str) -> Condition:
    """Parse a condition. Raises ``ExpressionError``."""
    if len(text) > LONGEST:
        raise ExpressionError(f"{len(text)} characters long; allowed: {LONGEST} or fewer")
    try:
        with warnings.catch_warnings(action="ignore"):  # Python warns about 1if or 2in
            tree = ast.parse(text.strip(), mode="eval").body
        _holds(tree, dict.fromkeys(NAMES))  # visits every part, as nothing decides early
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:  # ValueError: a null character
        if isinstance(error, ExpressionError):
            raise
        reason = error.msg if isinstance(error, SyntaxError) else "not readable"
        raise ExpressionError(f"{shown(text)}: {reason}; {_LANGUAGE}") from None
    return lambda numbers: None if (holds := _holds(tree, numbers)) is pd.NA else holds


def _holds(node: ast.expr, numbers: Numbers) -> Any:
    """Return True, False or NA."""
    match node:
        case ast.BoolOp(op=op, values=values):
            return reduce(_OPERATORS[type(op)], [_holds(value, numbers) for value in values])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _holds(operand, numbers) ^ True
        case ast.Compare(left=left, ops=ops, comparators=others) if _OPERATORS.keys() >= {type(op) for op in ops}:
            terms = [_number(term, numbers) for term in (left, *others)]
            links = [_OPERATORS[type(op)](*pair) for op, *pair in zip(ops, terms, terms[1:], strict=False)]
            return reduce(operator.and_, links)
    raise ExpressionError(f"{shown(ast.unparse(node))} is no condition; {_LANGUAGE}")


def _number(node: ast.expr, numbers: Numbers) -> Any:
    """Return a finite float or NA."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if value > sys.float_info.max:
                raise ExpressionError("a number is too large; allowed: finite numbers")
            return float(value)
        case ast.Name(id=name):
            if name not in NAMES:
                raise ExpressionError(f"{name!r} is not known; allowed: {', '.join(NAMES)}")
            return pd.NA if numbers[name] is None else numbers[name]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as op, operand=operand):
            return _OPERATORS[type(op)](_number(operand, numbers))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            try:
                found = _OPERATORS[type(op)](_number(left, numbers), _number(right, numbers))
            except ZeroDivisionError:
                return pd.NA
            return found if found is pd.NA or math.isfinite(found) else pd.NA
    raise ExpressionError(f"{shown(ast.unparse(node))} is no number; {_LANGUAGE}")
