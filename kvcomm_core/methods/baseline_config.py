"""Parameters of the methods that are not KVCOMM.

The module loads no torch, so that a sweep is read and planned without it.
"""

from dataclasses import dataclass
from typing import ClassVar

from kvcomm_core.config import DeviatingPart, MethodConfig, require, require_choice


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseConfig(MethodConfig):
    """The method ``dense`` has no parameters."""

    builds: ClassVar[str] = "kvcomm_core.methods.dense:build"
    exact: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixConfig(MethodConfig):
    """The method ``prefix`` has no parameters."""

    builds: ClassVar[str] = "kvcomm_core.methods.prefix:build"
    exact: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveConfig(MethodConfig):
    """The method ``naive`` has no parameters."""

    builds: ClassVar[str] = "kvcomm_core.methods.naive:build"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpicConfig(MethodConfig):
    """Parameters of the ``epic`` method (arXiv 2410.15332)."""

    builds: ClassVar[str] = "kvcomm_core.methods.epic:build"

    first: int = 16
    """Number of tokens at the beginning of each segment that are recomputed, beside the last text (k of LegoLink-k). 0
    or more."""

    def __post_init__(self) -> None:
        require(self.first >= 0, "first", self.first, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoFlowConfig(MethodConfig):
    """Parameters of the ``infoflow`` method (arXiv 2603.05353)."""

    builds: ClassVar[str] = "kvcomm_core.methods.infoflow:build"

    ratio: float = 0.15
    """Share of the tokens before the last text that are recomputed, beside that text. 0 to 1."""

    def __post_init__(self) -> None:
        require(0.0 <= self.ratio <= 1.0, "ratio", self.ratio, "0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig(MethodConfig):
    """Parameters of the ``relay`` method (arXiv 2603.13289)."""

    builds: ClassVar[str] = "kvcomm_core.methods.relay:build"

    ratio: float = 0.2
    """Share of the tokens before the last text that are recomputed, beside that text. 0 to 1."""

    depth: float = 0.75
    """Share of the layers, from the first, through which they are recomputed. Above 0, at most 1."""

    def __post_init__(self) -> None:
        require(0.0 <= self.ratio <= 1.0, "ratio", self.ratio, "0 to 1")
        require(0.0 < self.depth <= 1.0, "depth", self.depth, "above 0, at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheBlendConfig(MethodConfig):
    """Parameters of the ``cacheblend`` method (arXiv 2405.16444)."""

    builds: ClassVar[str] = "kvcomm_core.methods.cacheblend:CacheBlend"

    ratio: float = 0.2
    """Share of the tokens before the last text that are recomputed through all layers, beside the last text itself. 0
    to 1; 0 recomputes the last text alone."""

    select: DeviatingPart = "values"
    """Whose deviation at layer 1 chooses those tokens: that of their ``values``, as in the authors' code, or of their
    ``keys``, as in LMCache."""

    def __post_init__(self) -> None:
        require(0.0 <= self.ratio <= 1.0, "ratio", self.ratio, "0 to 1")
        require_choice("select", self.select, DeviatingPart)
