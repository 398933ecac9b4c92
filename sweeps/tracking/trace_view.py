"""The contents of MLflow's traces: one for each item of a trial, which shows its conversation.

The trace of an item has a span for each turn, and below it a span for each phase. A turn begins when its record says
so. Within a turn, the durations are measured; the engine may enter a phase several times, so a phase is one span of its
total length, and the phases stand end to end in the order in which the engine goes through them. Results from before
turns had a start are shown end to end from the start of the trial, and their attribute ``kvcomm.start`` says so.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from analysis.potential.prompt_markup import messages_of
from harness.results.conversations import turn_latency_s
from harness.results.rates import is_correct
from harness.results.trial_result import SampleRecord, TrialResult, TrialRow, TurnRecord

Kind = Literal["CHAIN", "AGENT", "LLM", "TASK", "TOOL"]
"""MLflow's kind of a span; its pages show an icon for each."""

BEFORE_FIRST_TOKEN = ("base_kv", "match", "estimate", "blend", "recompute", "prefill")
AFTER_THE_ANSWER = ("store", "publish")

_ATTRIBUTES = (
    "arm",
    "mode",
    "agent_index",
    "round",
    "batch_size",
    "prompt_tokens",
    "reused_tokens",
    "exact_prefix_tokens",
    "computed_tokens",
    "output_tokens",
    "no_reuse_reason",
    "no_reuse_placeholder",
    "entropy_ratio",
    "nearest_distance",
    "ttft_s",
    "decode_s",
    "kl_next_token",
    "kl_continuation",
    "greedy_agreement",
    "outcome",
    "stop_reason",
)


@dataclass(frozen=True, slots=True)
class SpanView:
    """The contents of one span."""

    name: str
    kind: Kind
    start_ns: int
    """Nanoseconds from 1970, UTC."""
    end_ns: int
    inputs: Any = None
    outputs: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    children: list["SpanView"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TraceView:
    """The contents of one trace."""

    trace_id: str
    """32 hexadecimal digits, equal for the same item of the same attempt."""
    root: SpanView
    tags: dict[str, str]
    question: str | None
    answer: str
    expected: str
    correct: bool | None
    """None if answers are not graded."""
    grade_rule: str


def traces_of(result: TrialResult) -> Iterator[TraceView]:
    """Yield the traces of an attempt, item by item. Turns of random tokens have no conversation, so no trace."""
    row = result.trial
    taken: defaultdict[int, list[TurnRecord]] = defaultdict(list)
    for turn in result.turns:
        if turn.arm == row.method and turn.output_text is not None:
            taken[turn.sample_index].append(turn)
    clock_ns = int(row.started_at.timestamp() * 1e9)
    for sample in result.samples:
        if turns := taken[sample.sample_index]:
            spans = [_turn_span(turn, start_ns) for turn, start_ns in _starts(turns, clock_ns)]
            clock_ns = spans[-1].end_ns
            yield _trace(row, sample, turns, spans)


def _starts(turns: Sequence[TurnRecord], clock_ns: int) -> Iterator[tuple[TurnRecord, int]]:
    """Yield each turn with its start; one that does not know it begins at the end of the one before."""
    for turn in turns:
        start_ns = clock_ns if turn.started_us is None else turn.started_us * 1000
        yield turn, start_ns
        clock_ns = start_ns + _nanoseconds(turn_latency_s(turn) + (turn.tool_s or 0.0))


def _trace(row: TrialRow, sample: SampleRecord, turns: Sequence[TurnRecord], spans: list[SpanView]) -> TraceView:
    question = _messages(turns[0])[-1]["content"] if turns[0].prompt_text else None
    root = SpanView(
        name=f"{row.method}, item {sample.item_id}",
        kind="CHAIN",
        start_ns=spans[0].start_ns,
        end_ns=max(span.end_ns for span in spans),
        inputs={"messages": [{"role": "user", "content": question or ""}]},
        outputs=_answer(sample.answer_text),
        attributes={
            "kvcomm.trial_id": row.trial_id,
            "kvcomm.sample_index": sample.sample_index,
            "kvcomm.latency_s": sample.latency_s,
            "kvcomm.extracted": sample.extracted,
            "kvcomm.expected": sample.expected,
        },
        children=spans,
    )
    identity = f"{row.trial_id}-{row.attempt}-{sample.sample_index}"
    return TraceView(
        trace_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        root=root,
        tags={
            "kvcomm.sweep": row.sweep,
            "kvcomm.item": sample.item_id,
            "kvcomm.method": row.method,
            "kvcomm.agents": str(row.agents),
            "kvcomm.modes": " ".join(turn.mode for turn in turns),
        },
        question=question,
        answer=sample.answer_text,
        expected=sample.expected,
        correct=None if sample.outcome is None else is_correct(sample.outcome),
        grade_rule=sample.grade_rule,
    )


def _turn_span(turn: TurnRecord, start_ns: int) -> SpanView:
    children = [_first_token_span(turn, start_ns)]
    children += _in_a_row([("decode", "LLM", turn.decode_s)], children[-1].end_ns)
    later: list[tuple[str, Kind, float]] = [(name, "TASK", _phase_s(turn, name)) for name in AFTER_THE_ANSWER]
    children += _in_a_row(later, children[-1].end_ns)
    if turn.tool is not None:
        tool = _in_a_row([(turn.tool, "TOOL", turn.tool_s or 0.0)], children[-1].end_ns, at_least_one=True)
        children += [
            SpanView(one.name, one.kind, one.start_ns, one.end_ns, {"answer": turn.output_text}, turn.tool_text)
            for one in tool
        ]
    known = {f"kvcomm.{name}": getattr(turn, name) for name in _ATTRIBUTES}
    return SpanView(
        name=f"{turn.agent_index} {turn.agent_role}" + (f", round {turn.round + 1}" if turn.round else ""),
        kind="AGENT",
        start_ns=start_ns,
        end_ns=children[-1].end_ns,
        inputs={"messages": _messages(turn)},
        outputs=_answer(turn.output_text or ""),
        attributes={
            **{name: value for name, value in known.items() if value is not None},
            "kvcomm.start": "estimated" if turn.started_us is None else "recorded",
            # MLflow's name for the tokens of a call; it sums them over the trace.
            "mlflow.chat.tokenUsage": {
                "input_tokens": turn.prompt_tokens,
                "output_tokens": turn.output_tokens,
                "total_tokens": turn.prompt_tokens + turn.output_tokens,
                "cache_read_input_tokens": turn.reused_tokens,
            },
        },
        children=children,
    )


def _first_token_span(turn: TurnRecord, start_ns: int) -> SpanView:
    phases: list[tuple[str, Kind, float]] = [(name, "TASK", _phase_s(turn, name)) for name in BEFORE_FIRST_TOKEN]
    return SpanView(
        name=f"first token ({turn.mode})",
        kind="TASK",
        start_ns=start_ns,
        end_ns=start_ns + _nanoseconds(turn.ttft_s),
        attributes={"kvcomm.ttft_paper_s": turn.ttft_paper_s},
        children=_in_a_row(phases, start_ns),
    )


def _in_a_row(parts: Sequence[tuple[str, Kind, float]], start_ns: int, *, at_least_one: bool = False) -> list[SpanView]:
    """Return spans of these names, kinds and seconds, one after another, without those that took no time."""
    spans = []
    for name, kind, seconds in parts:
        if seconds > 0 or at_least_one:
            spans.append(SpanView(name, kind, start_ns, start_ns + _nanoseconds(seconds)))
            start_ns = spans[-1].end_ns
    return spans


def _phase_s(turn: TurnRecord, name: str) -> float:
    return getattr(turn, f"phase_{name}_s") or 0.0


def _messages(turn: TurnRecord) -> list[dict[str, str]]:
    """Return a prompt as MLflow's pages show a chat; as one message if its markup is not known."""
    prompt = turn.prompt_text or ""
    return [{"role": role, "content": text} for role, text in messages_of(prompt) or [("user", prompt)]]


def _answer(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
