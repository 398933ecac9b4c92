"""Parameters of the methods, as plain data.

This module imports no torch, so that planning a sweep or reading its results stays instant.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Criterion = Literal["entropy_paper"]
Estimator = Literal["l2_norm"]


def require(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ``ValueError`` naming the field, its value and what is allowed, unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{field} is {value!r}; allowed: {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCommConfig:
    """Parameters of the ``kvcomm`` method. Symbols and equations are those of arXiv 2510.12872."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    criterion: Criterion = "entropy_paper"
    """When a placeholder's sample is shareable (paper Eq. 5)."""

    estimator: Estimator = "l2_norm"
    """How the offset is estimated from the matched anchors (paper Eq. 6 and 7)."""

    gamma: float = 0.3
    """Entropy threshold: a sample is shareable if H(w) <= gamma * log |A|. 0 to 1."""

    max_anchors: int = 20
    """V: the most anchors a pool holds. At least 1."""

    window: int = 5
    """Eviction looks at this many oldest anchors and drops the least used. At least 1."""

    min_anchors: int = 2
    """Fewer candidate anchors than this are no evidence: the sample becomes an anchor itself. Eq. 5 alone is
    vacuous with one candidate (H = log 1 = 0); the public code asks for two as well. At least 1."""

    match_temperature: float = 0.005
    """Divides the relative RMS distances in the entropy test. The paper leaves the norm's scale open; see
    ``kvcomm_core/criteria.py`` for how this value was found. Above 0."""

    blend_temperature: float = 0.1
    """Divides the same distances in the blending weights. Above 0."""

    rotate_keys: bool = True
    """Alignment switch of table 5: move cached keys to their position in this prompt."""

    placeholder_offset: bool = True
    """Alignment switch of table 5: add the estimated offset of the placeholder (Eq. 6)."""

    text_offset: bool = True
    """Alignment switch of table 5: add the estimated offset of the text segment after it (Eq. 7)."""

    def __post_init__(self) -> None:
        require(self.criterion in get_args(Criterion), "criterion", self.criterion, _names(Criterion))
        require(self.estimator in get_args(Estimator), "estimator", self.estimator, _names(Estimator))
        require(0.0 <= self.gamma <= 1.0, "gamma", self.gamma, "0 to 1")
        require(self.max_anchors >= 1, "max_anchors", self.max_anchors, "1 or more")
        require(self.window >= 1, "window", self.window, "1 or more")
        require(self.min_anchors >= 1, "min_anchors", self.min_anchors, "1 or more")
        for name in ("match_temperature", "blend_temperature"):
            value = getattr(self, name)
            require(0.0 < value < float("inf"), name, value, "a finite number above 0")


def _names(literal: object) -> str:
    return ", ".join(get_args(literal))
