"""blend: the micro-benchmark of matching and blending by number of anchors and tokens (paper, table A.5).

It has no agents and no prompts. One placeholder of random KV, in the shape of the model's KV, is matched with random
anchors and blended from them. ``harness.trials.blend_timing`` defines the measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.workloads.base import UNUSED_WITHOUT_ANSWERS, Item, Work, Workload, require_fully_connected
from kvcomm_core.config import KVCommConfig, require

if TYPE_CHECKING:
    from harness.spec import TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendSpec(Workload):
    """Parameters of the ``blend`` workload. It requires the method ``kvcomm``, whose parameters choose what is
    timed."""

    runner: ClassVar[str] = "harness.trials.blend_timing:run_blend"
    tables: ClassVar[tuple[str, ...]] = ("probes",)
    timing: ClassVar[bool] = True
    shown_by: ClassVar[str] = "analysis.tables.blend_table:show_blends"
    shown_fields: ClassVar[tuple[str, ...]] = ("repeats", "anchors", "tokens")
    instead_of_verdict: ClassVar[str] = (
        "Matching and blending were timed alone. Speedup, accuracy, reuse and memory of turns are not measured."
    )
    needs_weights: ClassVar[bool] = False
    compares_with_dense: ClassVar[bool] = False
    unused_fields: ClassVar[tuple[str, ...]] = ("weights", *UNUSED_WITHOUT_ANSWERS)

    name: Literal["blend"] = "blend"

    anchors: int = 20
    """Number of anchors that the sample is matched with and blended from, regardless of ``kvcomm.max_anchors``,
    ``kvcomm.min_anchors`` and ``kvcomm.gamma``, which cost no time. At least 1."""

    tokens: int = 1024
    """Length T of the placeholder in the sample and in every anchor. At least 1."""

    repeats: int = 10
    """Number of times each step is timed, after one untimed pass. At least 1."""

    def __post_init__(self) -> None:
        for name in ("anchors", "tokens", "repeats"):
            value = getattr(self, name)
            require(value >= 1, f"workload.{name}", value, "1 or more")

    def check(self, trial: "TrialSpec") -> None:
        """Raise ``ValueError`` unless the method is ``kvcomm`` with a criterion that needs no model, an estimator that
        sums offsets, and the topology ``fully_connected``."""
        require_fully_connected(trial)
        require(trial.method == "kvcomm", "method", trial.method, "kvcomm, with workload blend")
        if isinstance(trial.parameters, KVCommConfig):
            criterion, estimator = trial.parameters.criterion, trial.parameters.estimator
            allowed = "any but entropy_literal with workload blend, which has no token embeddings"
            require(criterion != "entropy_literal", "kvcomm.criterion", criterion, allowed)
            allowed = "any but affine with workload blend, which times sums of anchors' offsets"
            require(estimator != "affine", "kvcomm.estimator", estimator, allowed)

    @property
    def units(self) -> float:
        """The tokens that it reads."""
        return float((self.repeats + 1) * self.anchors * self.tokens)

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:  # noqa: ARG002 - the same for all
        """Return work without prompts and answers."""
        return Work()
