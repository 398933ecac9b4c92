"""A method from elsewhere, in one file: dense prefill under another name, with a parameter of its own."""

from dataclasses import dataclass
from typing import ClassVar

from kvcomm_core.config import MethodConfig, require
from kvcomm_core.method import Method
from kvcomm_core.methods.dense import Dense
from kvcomm_core.models.loading import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin(MethodConfig):
    """Parameters of the twin."""

    exact: ClassVar[bool] = True

    alpha: float = 0.5
    """A number that changes nothing. 0 to 1."""

    def __post_init__(self) -> None:
        require(0.0 <= self.alpha <= 1.0, "alpha", self.alpha, "0 to 1")

    def build(self, model: LoadedModel, header_ids: tuple[int, ...]) -> Method:
        return Dense()
