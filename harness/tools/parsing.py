"""Python source that may not be any: each function gives None or False where the parser refuses."""

import ast
import warnings

# The parser's ways of refusing a text; the last two are for one that is nested too deep.
_REFUSALS = (SyntaxError, ValueError, RecursionError, MemoryError)

# The parser warns of oddities in what a model wrote, on our stderr and in the model's words.
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
    """Whether ``source`` writes out a value: numbers, texts, None, truth values, and containers of them."""
    try:
        ast.literal_eval(source)
    except (*_REFUSALS, TypeError):  # a set of lists, for one
        return False
    return True
