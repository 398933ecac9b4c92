"""Parsing of text that may not be Python; each function returns None or False where the parser refuses."""

import ast
import warnings

# The exceptions by which the parser refuses a text; the last two are for text that is nested too deep.
_REFUSALS = (SyntaxError, ValueError, RecursionError, MemoryError)

# The parser would print warnings about a model's code on our stderr, in the model's words.
warnings.filterwarnings("ignore", module="<unknown>")


def parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except _REFUSALS:
        return None


def parsed_expression(source: str) -> ast.expr | None:
    try:
        return ast.parse(source, mode="eval").body
    except _REFUSALS:
        return None


def is_literal(source: str) -> bool:
    """Return whether ``source`` is a literal: numbers, texts, None, truth values, and containers of them."""
    try:
        ast.literal_eval(source)
    except (*_REFUSALS, TypeError):  # for example a set of lists
        return False
    return True
