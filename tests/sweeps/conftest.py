"""Fixtures shared with the other floors' tests."""

from made_up import make_result

__all__ = ["make_result"]
