"""blend: the micro-benchmark of matching and blending against anchors and tokens (paper, table A.5).

No agents and no prompts: one placeholder of random KV, of the shape that the model's KV has, is matched with random
anchors and blended from them. What is measured stands in ``harness.blend``.
"""

from dataclasses import dataclass
from typing import Literal

from kvcomm_core.config import require


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendSpec:
    """Parameters of the ``blend`` workload. It needs the method ``kvcomm``, whose parameters choose what is timed."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    name: Literal["blend"] = "blend"

    anchors: int = 20
    """Anchors that the sample is matched with and blended from, whatever ``kvcomm.max_anchors`` says. At least 1."""

    tokens: int = 1024
    """Length T of the placeholder in the sample and in every anchor. At least 1."""

    repeats: int = 10
    """How often each step is timed, after one untimed pass. At least 1."""

    def __post_init__(self) -> None:
        for name in ("anchors", "tokens", "repeats"):
            value = getattr(self, name)
            require(value >= 1, f"workload.{name}", value, "1 or more")
