"""Parameters of the methods, as plain data.

A method is named by the class of its parameters, which builds it. This module imports no torch, so that planning a
sweep or reading its results stays instant.
"""

import importlib
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

if TYPE_CHECKING:
    from kvcomm_core.method import Method
    from kvcomm_core.models.loading import LoadedModel

Criterion = Literal[
    "entropy_fitted", "entropy_literal", "entropy_upstream", "length", "always", "calibrated", "gated", "oracle"
]
TurnCriterion = Literal["calibrated", "gated", "oracle"]
Lessons = Literal["new_samples", "dense_turns"]
BaseContext = Literal["alone", "in_place"]
Estimator = Literal["l2_norm", "upstream", "cosine", "nearest", "mean", "affine"]
Fallback = Literal["dense", "prefix", "partial"]
Storage = Literal["model", "int8"]
Placement = Literal["device", "host"]
Pairs = Literal["halves", "neighbours"]
"""The pairs of dimensions that RoPE turns, where R dimensions rotate: (i, i + R/2), or (2i, 2i + 1)."""
DeviatingPart = Literal["values", "keys"]
NoReuseReason = Literal["cold", "too_long", "refused", "slot_unmet"]
"""Why a sample has no estimate: its pool holds fewer than ``fewest_candidates`` anchors; too few of them are as long as
the sample; the criterion refused it; or no matched anchor has an offset for this hole of this template."""


RECOMPUTE_FORMS = (
    "none, tail, last:K or first:K (K tokens, 1 or more), share:R or query:R (R above 0, at most 1); last, first and "
    "one of share and query may be joined by +"
)

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100


def one_line(text: object) -> str:
    """The text of a value, such as an exception, with a single space for each run of white space."""
    return " ".join(str(text).split())


def shown(value: object) -> str:
    """Return a value's ``repr`` for an error message, shortened to 200 characters at most."""
    text = _SHORT.repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def require(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ``ValueError`` naming the field, its value and what is allowed, unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{field} is {shown(value)}; allowed: {allowed}")


def require_choice(field: str, value: object, literal: object) -> None:
    """Raise ``ValueError`` unless ``value`` is one of the literal's."""
    require(value in get_args(literal), field, value, ", ".join(get_args(literal)))


def parse_recompute(text: str) -> dict[str, float]:
    """Return the choices of ``selection/recompute_choice.py`` that a text names, each with its number, 0 where it has
    none. Raise ``ValueError`` for any other text."""
    parsed = [_parse_one(part) for part in text.split("+")]
    choices = {kind: number for kind, number in parsed if kind is not None and number is not None}
    alone = {"none", "tail"} & choices.keys() and len(parsed) > 1
    known = len(choices) == len(parsed) and not alone and not {"share", "query"} <= choices.keys()
    require(known, "recompute", text, RECOMPUTE_FORMS)
    return choices


def _parse_one(text: str) -> tuple[str | None, float | None]:
    kind, colon, number = text.partition(":")
    if not colon:
        return (kind, 0.0) if kind in ("none", "tail") else (None, None)
    try:
        value = float(int(number) if kind in ("first", "last") else number)
    except ValueError:
        return None, None
    known = (kind in ("first", "last") and value >= 1) or (kind in ("share", "query") and 0.0 < value <= 1.0)
    return (kind, value) if known else (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """A method's parameters, one field each, with defaults. A subclass is a frozen dataclass that builds its method.

    A sweep file sets the fields as ``NAME.FIELD``, NAME being the method's name, or the class's in lower case. Values
    must be numbers, text, truth values or None. ``__post_init__`` raises ``ValueError`` for a value that is not allowed
    (see ``require``).
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    builds: ClassVar[str] = ""
    """``module:function`` that ``build`` calls with its own arguments and the parameters, so that this module need not
    import the method's. A class that overrides ``build`` leaves it empty."""
    exact: ClassVar[bool] = False
    """Whether the method's answers are always those of dense prefill."""
    small_limits: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Fields that limit what the method keeps, with values that few requests reach. ``kvcomm check-method`` sets them
    to see that memory stops growing."""

    def build(self, model: "LoadedModel", header_ids: tuple[int, ...]) -> "Method":
        """Return the method, without state yet. ``header_ids``: see ``kvcomm_core.segments``."""
        module, _, function = self.builds.partition(":")
        method: Method = getattr(importlib.import_module(module), function)(model, header_ids, self)
        return method


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCommConfig(MethodConfig):
    """Parameters of the ``kvcomm`` method. Symbols and equations are those of arXiv 2510.12872."""

    builds: ClassVar[str] = "kvcomm_core.methods.kvcomm:KVComm"
    small_limits: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_anchors": 3})

    criterion: Criterion = "entropy_fitted"
    """When a placeholder's sample is shareable (paper Eq. 5); formulas in ``kvcomm_core/criteria.py``. An exact
    repeat of an anchor's tokens is always shareable. ``calibrated``, ``gated`` and ``oracle`` take every sample, as
    ``always`` does, and judge the whole turn by a KL (``kvcomm_core/gates``); ``oracle`` knows the true one and is a
    bound, not a method."""

    estimator: Estimator = "l2_norm"
    """Estimator of the offset from the matched anchors (paper Eq. 6 and 7, table A.4). ``kvcomm_core/estimators.py``
    gives the formulas."""

    gamma: float = 0.3
    """Entropy threshold of the ``entropy_*`` criteria: shareable if H(w) <= gamma * log |A|. 0 to 1."""

    max_anchors: int = 20
    """Maximum number of anchors in a pool (V in the paper). At least 1."""

    window: int = 5
    """Number of oldest anchors that eviction considers; it drops the least used. At least 1."""

    min_anchors: int = 2
    """Minimum number of candidate anchors; with fewer, the sample becomes an anchor itself. Eq. 5 alone is vacuous
    with one candidate (H = log 1 = 0), and the public code also asks for two. ``entropy_literal`` asks for one, as the
    paper does, whatever the number here. At least 1."""

    top_k: int | None = None
    """Number of nearest matched anchors to blend; None for all, as in the public code. At least 1."""

    match_temperature: float = 0.005
    """Divides the relative distances in the test of ``entropy_fitted``. It was fitted to the shape of the paper's table
    6, as ``kvcomm_core/criteria.py`` explains. Above 0."""

    blend_temperature: float = 0.1
    """Divides the distances of ``l2_norm``, or the similarities of ``cosine``, in the blending weights. Above 0."""

    rotate_keys: bool = True
    """Alignment switch of table 5: move cached keys to their position in this prompt."""

    placeholder_offset: bool = True
    """Alignment switch of table 5: add the estimated offset of the placeholder (Eq. 6)."""

    text_offset: bool = True
    """Alignment switch of table 5: add the estimated offset of the text segment after it (Eq. 7)."""

    fallback: Fallback = "dense"
    """The way to obtain the KV of a placeholder that has no usable offset. ``dense`` prefills the whole prompt, as the
    paper does. ``prefix`` prefills all but the leading text, whose KV is exact, as a server's prefix cache would.
    ``partial`` recomputes only that placeholder and the text after it, on top of what is reused. It prefills the whole
    prompt, too, while a pool is cold or has not met this template, because only true KV teaches offsets. KV that it
    recomputes behind an estimated segment is not true KV, and becomes no anchor."""

    max_kl: float = 0.1
    """Largest KL of the next token, in nats, with which ``calibrated``, ``gated`` and ``oracle`` let a turn reuse.
    Above 0."""

    alpha: float = 0.1
    """Largest share of reused turns above ``max_kl`` that ``calibrated`` promises. Above 0, below 1."""

    learns: Lessons = "new_samples"
    """Samples that become anchors: those that the criterion finds new, as in the paper, or those of ``dense_turns``,
    every sample of every turn that is prefilled anyway."""

    audit_share: float = 0.0
    """Share of the reused turns that are prefilled, too, after their answer. Their samples become anchors, and their KL
    is recorded. The tokens count as computed for learning. 0 to 1."""

    recompute: str = "none"
    """Tokens that are recomputed after the estimate, as other methods do: ``none``, ``tail`` (the last text is run
    instead of estimated), ``last:K`` (its last K tokens are run), ``first:K`` (the tail, and the first K tokens of
    every other segment), ``share:R`` (the tail, and the share R of the tokens before it that deviate most) or
    ``query:R`` (the same, but those to which the tail attends most), or several joined by ``+``, such as
    ``last:32+first:1``; see ``kvcomm_core/selection/recompute_choice.py``."""

    base: BaseContext = "alone"
    """Context of the base KV of a question or a tool's result. ``alone``: it is prefilled by itself under the chat
    header, as in the paper. ``in_place``: the first agent that reads it prefills it in its own prompt, where it then
    needs no estimate; what later agents reuse is that. This costs the same tokens. It asks for a criterion that takes
    any sample and an estimator that keeps running sums, since nothing can be compared before that prefill."""

    storage: Storage = "model"
    """Format of the offsets that anchors hold: the model's dtype, or 8-bit integers with a scale per layer, head and
    channel. The running sums of ``mean`` and ``affine`` are always float32. Base values that are only compared take 16
    bits (not with ``upstream``)."""

    placement: Placement = "device"
    """Where anchors are stored: with their layers, or in host memory (pinned where there is a GPU)."""

    pool_bytes: int | None = None
    """Byte budget of one pool. Older anchors make room until a new one fits; one that never fits is not kept. None
    for no limit but V. At least 1."""

    @property
    def judges_turns(self) -> bool:
        """Whether the criterion takes every sample, and judges whole turns."""
        return self.criterion in get_args(TurnCriterion)

    @property
    def takes_any_sample(self) -> bool:
        """Whether the criterion takes every sample, whatever its length."""
        return self.criterion == "always" or self.judges_turns

    @property
    def compares_samples(self) -> bool:
        """Whether the criterion or the estimator compares base KV, so that anchors must keep it. ``entropy_literal``
        compares token embeddings, for which an anchor's token ids are enough."""
        return not self.summarises or self.criterion in ("entropy_fitted", "entropy_upstream")

    @property
    def summarises(self) -> bool:
        """Whether pools keep running sums of all offsets instead of each anchor's own."""
        return self.estimator in ("mean", "affine")

    @property
    def fewest_candidates(self) -> int:
        """Number of candidate anchors that the criterion asks for."""
        return 1 if self.criterion == "entropy_literal" else self.min_anchors

    @property
    def compares_keys(self) -> bool:
        """Whether the estimator compares keys, so that anchors must keep base keys beside base values."""
        return self.estimator == "upstream"

    def __post_init__(self) -> None:
        require_choice("criterion", self.criterion, Criterion)
        require_choice("estimator", self.estimator, Estimator)
        require_choice("learns", self.learns, Lessons)
        require_choice("fallback", self.fallback, Fallback)
        require_choice("storage", self.storage, Storage)
        require_choice("placement", self.placement, Placement)
        parse_recompute(self.recompute)
        require_choice("base", self.base, BaseContext)
        compares = not (self.takes_any_sample and self.summarises)
        allowed = f"alone, with criterion {self.criterion} and estimator {self.estimator}"
        require(self.base == "alone" or not compares, "base", self.base, allowed)
        if self.summarises:
            # Running sums grow sample by sample. Rounding them to 8 bits each time would let them drift.
            require(self.storage == "model", "storage", self.storage, f"model, with estimator {self.estimator}")
        require(0.0 <= self.gamma <= 1.0, "gamma", self.gamma, "0 to 1")
        require(0.0 < self.alpha < 1.0, "alpha", self.alpha, "above 0, below 1")
        require(0.0 <= self.audit_share <= 1.0, "audit_share", self.audit_share, "0 to 1")
        for name in ("max_anchors", "window", "min_anchors", "top_k", "pool_bytes"):
            value = getattr(self, name)
            optional = name in ("top_k", "pool_bytes")
            allowed = "1 or more, or null" if optional else "1 or more"
            require(optional if value is None else value >= 1, name, value, allowed)
        for name in ("match_temperature", "blend_temperature", "max_kl"):
            value = getattr(self, name)
            require(0.0 < value < float("inf"), name, value, "a finite number above 0")
