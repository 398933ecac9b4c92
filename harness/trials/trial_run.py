"""One run of a trial, or of one shard of it: the inputs of its runner, and the outputs."""

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.memory import MemoryMeter
from harness.results.checkpoint import Checkpoint, Checkpoints
from harness.results.measurements import AnchorRecord, FidelityRecord, KVStatistic, ProbeRecord
from harness.results.summary import PoolBytes
from harness.results.trial_result import SampleRecord, TurnRecord
from harness.spec import TrialSpec
from kvcomm_core.method import Method
from kvcomm_core.models.loading import LoadedModel

OnSample = Callable[[int, int], None]


@dataclass(slots=True, kw_only=True)
class TrialRun:
    """The inputs of a runner, and below them the fields that it fills."""

    spec: TrialSpec
    loaded: LoadedModel | None
    """None for a trial that needs no weights."""
    memory: MemoryMeter
    attempt: int = 1
    shard: int = 0
    report: OnSample | None = None
    allow_unsafe_code: bool = False
    checkpoints: Checkpoints | None = None

    turns: list[TurnRecord] = field(default_factory=list)
    samples: list[SampleRecord] = field(default_factory=list)
    fidelity: list[FidelityRecord] = field(default_factory=list)
    probes: list[ProbeRecord] = field(default_factory=list)
    kv_statistics: list[KVStatistic] = field(default_factory=list)
    anchors: list[AnchorRecord] | None = None
    """None for a method without pools, or if nobody asks for their content."""
    pools: PoolBytes | None = None
    """Bytes of the pools at the end; None for a method without pools."""
    sandbox_layers: str | None = None
    """The layers that confine model-written code; None if the trial runs none."""
    resumed_from: int | None = None
    """Number of samples that a checkpoint held; None where there is none to resume from."""
    checkpoint: Checkpoint | None = None
    messages: list[str] = field(default_factory=list)
    """Messages about the trial for the user, one line each."""

    @property
    def model(self) -> LoadedModel:
        """The model. Raises ``ValueError`` if there is none."""
        if self.loaded is None:
            raise ValueError(f"model is None; the workload {self.spec.workload.name} needs one")
        return self.loaded

    def open_checkpoint(self) -> None:
        """Set ``checkpoint``, if any can be kept: that of this model, since a folder or the Hub may hold other weights
        of the same name when the trial goes on."""
        if self.checkpoints is not None and self.checkpoints.are_possible:
            identity = self.model.identity
            described = {
                "layout": self.model.layout.describe(),
                "weights": identity.weights_digest,
                "config": identity.config_digest,
                "tokenizer": identity.tokenizer_digest,
                "chat_template": identity.template_digest,
            }
            self.checkpoint = self.checkpoints.of(self.spec.trial_id, self.shard, described)

    def done(self, count: int, total: int) -> None:
        """Report that ``count`` of ``total`` samples, or repeats, are finished."""
        if self.report is not None:
            self.report(count, total)

    def measure_pools(self, method: Method) -> None:
        """Record the current bytes of the pools of ``method``."""
        if method.pools is not None:
            self.pools = PoolBytes.of(method.pools, self.model.layout.bytes_per_token)
