"""A method that prints, and does not run."""

from dataclasses import dataclass
from typing import Any

from kvcomm_core.config import MethodConfig
from kvcomm_core.method import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Loud(MethodConfig):
    """It has no parameters."""

    def build(self, model: Any, header_ids: tuple[int, ...]) -> Method:
        print("here I am")
        raise RuntimeError("it breaks")
