"""Methods with one mistake each, and the check that tells it. Most are ``naive`` or ``kvcomm`` but for the mistake."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from kvcomm_core.blending import place
from kvcomm_core.config import KVCommConfig, MethodConfig
from kvcomm_core.method import AgentTurn, Decoded, Method, Plan, Session
from kvcomm_core.methods.baseline_config import CacheBlendConfig
from kvcomm_core.methods.cacheblend import CacheBlend
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.kvcomm_session import KVCommSession
from kvcomm_core.methods.naive import Naive, NaiveSession
from kvcomm_core.methods.selective_recompute import SelectiveSession
from kvcomm_core.recompute import Recomputed
from kvcomm_core.segments import BaseKV

COUNT = itertools.count()


class _Mistaken(NaiveSession):
    """A session of ``naive`` that its method's mistake may change."""

    def __init__(self, method: "NaiveBut") -> None:
        super().__init__(method.segments)
        self.method, self.mistake = method, method.mistake
        if self.mistake == "shares its sessions' state":
            self.bases = method.shared

    def plan(self, turn: AgentTurn) -> Plan:
        if self.mistake == "divides by zero" and not turn.prompt.holes[0]:
            1 / 0  # noqa: B018 - here it breaks
        if self.mistake == "exits":
            raise SystemExit(0)
        plan = super().plan(turn)
        if self.mistake == "supplies the last token":
            return replace(plan, supplied=len(turn.prompt))
        if self.mistake == "calls it dense":
            return replace(plan, mode="dense")
        if self.mistake == "decides by chance" and next(COUNT) % 3 == 0:
            return Plan("dense")
        return plan

    def fill(self, turn: AgentTurn, plan: Plan, row: Any) -> Plan:
        if self.mistake == "leaves a token out":
            self.place_unchanged(turn, plan.supplied - 1, row)
            return plan
        plan = super().fill(turn, plan, row)
        if self.mistake == "does not move keys":
            for hole, span in zip(turn.template.holes, turn.prompt.holes, strict=True):
                place(self.bases[hole].kv, [], row.view(span.start, span.stop), self.segments.model.rope, by=0)
        if self.mistake == "writes NaN":
            row.view(0, 1).values[0][3] = float("nan")
        return plan

    def account(self, turn: AgentTurn, plan: Plan, done: Recomputed) -> Plan:
        plan = super().account(turn, plan, done)
        if self.mistake == "says nothing is estimated":
            return replace(plan, estimated_tokens=0)
        if self.mistake == "counts base KV as reused":
            return replace(plan, reused_placeholder_tokens=sum(map(len, turn.prompt.holes)))
        if self.mistake == "counts less than nothing":
            return replace(plan, estimated_tokens=-1)
        return plan

    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        super().learn(turn, decoded)
        if self.mistake == "keeps views":
            self.bases[turn.answers] = BaseKV(decoded.answer_ids, decoded.answer_kv, 0)
        if self.mistake == "keeps growing":
            self.method.kept.append(decoded.prompt_kv.copy())


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveWith(MethodConfig):
    """Parameters of ``naive`` with a mistake, which is one of those named in this file."""

    mistake: str = ""

    def build(self, model: Any, header_ids: tuple[int, ...]) -> Method:
        return NaiveBut(model, header_ids, self.mistake)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsExact(NaiveWith):
    """``naive`` that says it is exact."""

    exact: ClassVar[bool] = True


class NaiveBut(Naive):
    def __init__(self, model: Any, header_ids: tuple[int, ...], mistake: str) -> None:
        super().__init__(model, header_ids)
        self.mistake, self.shared, self.kept = mistake, {}, []
        self.needs_answer_kv = mistake != "does not ask for the answer's KV"
        if mistake == "reads padding":
            self.segments.prefill_alone = self._shifted  # type: ignore[method-assign]

    def open(self) -> _Mistaken:
        return _Mistaken(self)

    def prepare(self, sessions: Sequence[Session], turns: Sequence[AgentTurn]) -> list[int]:
        computed = super().prepare(sessions, turns)
        if self.mistake == "mixes up rows" and len(sessions) > 1 and turns[0].name == "1":
            bases = [session.bases["user_question"] for session in sessions]
            for session, base in zip(sessions, [*bases[1:], bases[0]], strict=True):
                session.bases["user_question"] = base
        return [0] * len(turns) if self.mistake == "counts no base KV" else computed

    def _shifted(self, samples: Sequence[tuple[int, ...]]) -> tuple[list[BaseKV], list[int]]:
        """As if the padding stood before a shorter sample instead of after it."""
        longest = max(map(len, samples))
        bases, tokens = type(self.segments).prefill_alone(
            self.segments, [(*ids, *ids[-1:] * (longest - len(ids))) for ids in samples]
        )
        shifted = [
            BaseKV(ids, base.kv.slice(len(base.kv) - len(ids), len(base.kv)), base.origin)
            for ids, base in zip(samples, bases, strict=True)
        ]
        return shifted, tokens


class _EagerSession(KVCommSession):
    def learn(self, turn: AgentTurn, decoded: Decoded) -> None:
        super().learn(turn, decoded)
        self.close()
        self._drafts.clear()


class _Unreasoned(KVCommSession):
    def plan(self, turn: AgentTurn) -> Plan:
        return replace(super().plan(turn), no_reuse=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCommWith(KVCommConfig):
    """Parameters of ``kvcomm`` with a mistake, which is one of those named in this file."""

    mistake: str = ""

    def build(self, model: Any, header_ids: tuple[int, ...]) -> Method:
        return KVCommBut(model, header_ids, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlimited(KVCommConfig):
    """``kvcomm`` that learns from each request, with a limit that is never reached."""

    small_limits: ClassVar[dict[str, Any]] = {}
    gamma: float = 0.0
    max_anchors: int = 1000


class KVCommBut(KVComm):
    def __init__(self, model: Any, header_ids: tuple[int, ...], config: KVCommWith) -> None:
        super().__init__(model, header_ids, config)
        self.mistake = config.mistake
        sessions = {"learns too early": _EagerSession, "gives no reason": _Unreasoned}
        self.session_type = sessions.get(self.mistake, KVCommSession)

    @property
    def pool_bytes(self) -> int | None:
        return 0 if self.mistake == "says it holds nothing" else super().pool_bytes

    def describe_state(self) -> tuple[dict[str, Any], list[torch.Tensor]]:
        description, tensors = super().describe_state()
        if self.mistake == "loses its state":
            return {**description, "pools": {}}, []
        if self.mistake == "describes more than JSON holds":
            return {**description, "pools": set(description)}, tensors
        if self.mistake == "lists arrays":
            return description, [tensor.numpy() for tensor in tensors]
        return description, tensors


class _Uncounted(SelectiveSession):
    def account(self, turn: AgentTurn, plan: Plan, done: Recomputed) -> Plan:
        return replace(super().account(turn, plan, done), recomputed_tokens=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted(CacheBlendConfig):
    """``cacheblend`` that does not count what it recomputes."""

    def build(self, model: Any, header_ids: tuple[int, ...]) -> Method:
        method = CacheBlend(model, header_ids, self)
        method.open = lambda: _Uncounted(method.segments, method.choice)  # type: ignore[method-assign]
        return method


MISTAKES: dict[str, list[MethodConfig]] = {
    "runs": [NaiveWith(mistake=each) for each in ("divides by zero", "exits", "supplies the last token")],
    "exact": [ClaimsExact(), NaiveWith(mistake="says nothing is estimated")],
    "positions": [
        NaiveWith(mistake="does not move keys"),
        NaiveWith(mistake="writes NaN"),
        KVCommConfig(rotate_keys=False),
    ],
    "memory": [
        NaiveWith(mistake=each) for each in ("leaves a token out", "keeps views", "does not ask for the answer's KV")
    ],
    "padding": [NaiveWith(mistake="reads padding")],
    "batch": [NaiveWith(mistake="mixes up rows")],
    "isolation": [NaiveWith(mistake="shares its sessions' state")],
    "failed": [KVCommWith(mistake="learns too early")],
    "accounts": [
        NaiveWith(mistake="counts base KV as reused"),
        NaiveWith(mistake="counts no base KV"),
        NaiveWith(mistake="counts less than nothing"),
        NaiveWith(mistake="calls it dense"),
        KVCommWith(mistake="gives no reason"),
        Uncounted(),
    ],
    "bounded": [NaiveWith(mistake="keeps growing"), Unlimited(), KVCommWith(mistake="says it holds nothing")],
    "state": [
        KVCommWith(mistake=each) for each in ("loses its state", "describes more than JSON holds", "lists arrays")
    ],
    "repeated": [NaiveWith(mistake="decides by chance")],
}
"""Methods with one mistake, by the name of the check that is meant to tell it."""
