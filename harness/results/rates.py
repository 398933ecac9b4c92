"""Accuracy and rates of reuse, defined once: rows, MLflow, tables and the report all call these functions."""

from collections.abc import Iterable


def is_correct(outcome: str | None) -> bool:
    """Whether an answer of this outcome counts as right; an unparsable one does not."""
    return outcome == "correct"


def reuses_all(mode: str) -> bool:
    """Whether a turn of this mode reused every segment of its prompt."""
    return mode == "reuse"


def accuracy(outcomes: Iterable[str | None]) -> float | None:
    """Return the share of correct outcomes among those of graded answers, 0 to 1; None if there are none."""
    return _share([is_correct(outcome) for outcome in outcomes if outcome is not None])


def turn_reuse_rate(modes: Iterable[str]) -> float | None:
    """Return the share of turns that reused every segment, 0 to 1: the paper's rate. None if there are no turns."""
    return _share([reuses_all(mode) for mode in modes])


def token_reuse_rate(reused_tokens: Iterable[int], prompt_tokens: Iterable[int]) -> float | None:
    """Return reused prompt tokens over prompt tokens of all turns together, 0 to 1. None if there are no turns."""
    prompts = sum(prompt_tokens)
    return float(sum(reused_tokens) / prompts) if prompts else None


def beyond_prefix_rate(
    reused_tokens: Iterable[int], exact_prefix_tokens: Iterable[int], prompt_tokens: Iterable[int]
) -> float | None:
    """Return the reused tokens beyond those that an exact prefix cache would have reused, over prompt tokens.

    It is a difference of sums over all turns together: a turn that reused less than the cache would have counts
    against the others, so the rate may be below 0. None if there are no turns.
    """
    prompts = sum(prompt_tokens)
    return float((sum(reused_tokens) - sum(exact_prefix_tokens)) / prompts) if prompts else None


def _share(holds: list[bool]) -> float | None:
    return sum(holds) / len(holds) if holds else None
