"""gsm8k: grade-school mathematics word problems."""

from dataclasses import dataclass
from typing import Literal

from harness.workloads.base import Grade, Item
from kvcomm_core.config import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsm8kSpec:
    """Parameters of the ``gsm8k`` workload."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    name: Literal["gsm8k"] = "gsm8k"
    limit: int = 12
    """Number of items. At least 1."""

    def __post_init__(self) -> None:
        require(self.limit >= 1, "workload.limit", self.limit, "1 or more")


def load(spec: Gsm8kSpec, seed: int) -> list[Item]:
    """``spec.limit`` items; equal specs and seeds give equal items."""
    raise NotImplementedError(spec, seed)


def grade(item: Item, answer: str) -> Grade:
    """Compare the answer with the fact asked for."""
    raise NotImplementedError(item, answer)
