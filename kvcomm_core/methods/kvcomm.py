"""``kvcomm``: reuse every segment's KV at its new position, corrected by offsets learnt from anchors.

For each placeholder and the text after it (paper, Eq. 6 and 7),

    KV(prompt) = rotate(base KV + sum_psi w_psi * offset_psi, to the segment's position)

``segments`` makes the base KV, ``matching`` finds a sample's anchors, ``hole_estimate`` gives the terms of the sum. A
sample that is unlike every anchor (``criteria``, Eq. 5) becomes an anchor: the turns that read it are prefilled
densely, and true minus base KV is kept as their offset. Where the pools rule reuse out by token ids alone, the base KV
that only learning needs is made after the first token.

Keys of base KV and offsets share one frame: local positions 0..T-1. They are rotated once, after blending.

A reuse turn reads the offsets of all matched anchors (one running mean with the ``mean`` estimator), writes one
prompt's KV and runs one token's forward pass. The method fails when offsets depend on more than the anchors show: with
few anchors, with answers whose contexts differ much, or with a text whose meaning depends on the placeholder before it.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from kvcomm_core.config import KVCommConfig
from kvcomm_core.gates.auditing import Auditor
from kvcomm_core.gates.calibrated import CalibratedGate
from kvcomm_core.gates.calibration import Calibration
from kvcomm_core.gates.gate import Gate
from kvcomm_core.gates.measured import DisagreementGate, OracleGate
from kvcomm_core.method import AgentTurn, Method, Session
from kvcomm_core.methods.kvcomm_session import KVCommSession
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.pools.anchor_pools import AnchorPools
from kvcomm_core.pools.pool_state import Description, describe_pools, rebuild_pools
from kvcomm_core.pools.prefetching import Prefetcher
from kvcomm_core.segments import Segments, make_bases, prepare_bases
from kvcomm_core.template import Template, TokenIds


class KVComm(Method):
    """The method's state across requests: the base KV of every template's text segments, and the anchor pools."""

    needs_answer_kv = True
    session_type = KVCommSession

    def __init__(self, model: LoadedModel, header_ids: TokenIds, config: KVCommConfig) -> None:
        self.config = config
        self.segments = Segments(model, header_ids)
        self.pools: AnchorPools = AnchorPools(config)
        calibrates = config.criterion == "calibrated"
        self.calibration = Calibration(config.max_kl, config.alpha) if calibrates else None
        self._prefetcher = Prefetcher() if config.placement == "host" and not config.summarises else None
        self.always_learn = False
        """Make every sample a new anchor, whatever the criterion says; used to fill pools before a timing."""

    def register(self, name: str, template: Template, filler: TokenIds) -> None:
        """Compute the base KV of the template's texts."""
        self.segments.register(name, template, filler)

    def describe_state(self) -> tuple[Description, list[Tensor]]:
        """Describe the pools and the audits as they are now. Together with newly registered templates they are
        everything the method has learnt."""
        pools, tensors = describe_pools(self.pools.state())
        return {"pools": pools, "calibration": self.calibration and self.calibration.describe()}, tensors

    def restore(self, description: Description, tensors: Sequence[Tensor]) -> None:
        """Replace the pools and the audits with those that ``describe_state`` described. The model's layout and the
        config must be the same."""
        devices = [group.device for group in self.segments.model.layout.groups]
        self.pools.restore(rebuild_pools(description["pools"], tensors, devices, self.config.placement))
        if self.calibration is not None:
            self.calibration.restore(description["calibration"])

    def open(self) -> "KVCommSession":
        """Open a session that sees the pools as they are now."""
        auditor = Auditor(self.segments.model, self.config, self.calibration)
        return self.session_type(
            self.segments,
            self.pools,
            self.config,
            self._gate(),
            auditor,
            always_learn=self.always_learn,
            prefetcher=self._prefetcher,
        )

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        """Prefill new samples alone, in one batch, for the turns that may reuse anything."""
        if self.config.base == "in_place":
            return super().prepare(sessions, turns)
        sessions = cast("Sequence[KVCommSession]", sessions)
        missing = [
            {} if session.is_ruled_out(turn) else session.missing(turn)
            for session, turn in zip(sessions, turns, strict=True)
        ]
        return make_bases(self.segments, sessions, missing)

    def look_ahead(self, sessions: Sequence[Session], name: str, template: Template) -> None:
        """Begin to bring the offsets to the device that a turn with this template would read."""
        if self._prefetcher is not None:
            ours = cast("Sequence[KVCommSession]", sessions)
            self._prefetcher.start(o for session in ours for o in session.offsets_of(name, template.holes))

    def prepare_learning(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        """Prefill the new samples that are left, from whose base KV the sessions learn."""
        if self.config.base == "in_place":
            return super().prepare_learning(sessions, turns)
        return prepare_bases(self.segments, cast("Sequence[KVCommSession]", sessions), turns)

    def _gate(self) -> Gate | None:
        """Return what judges whole turns, as it is now; None if the criterion judges samples."""
        match self.config.criterion:
            case "calibrated":
                assert self.calibration is not None  # noqa: S101 - made for this criterion
                return CalibratedGate(self.calibration.snapshot())
            case "gated":
                return DisagreementGate(self.config.max_kl)
            case "oracle":
                return OracleGate(self.config.max_kl)
            case _:
                return None
