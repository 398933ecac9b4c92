"""Traces: one per item, with a span per turn and phase, at the times at which they were."""

import dataclasses

import pytest

from harness.spec import TrialSpec
from sweeps.tracking.trace_view import traces_of

SPEC = TrialSpec(agents=2, method="kvcomm")
PROMPT = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
START_US = 1_800_000_000_000_000


def spans_of(span, depth=0):
    yield depth, span
    for child in span.children:
        yield from spans_of(child, depth + 1)


@pytest.fixture
def result(make_result):
    """Two items of two agents; each turn begins 2 s after the one before."""
    made = make_result(SPEC)
    turns = [
        dataclasses.replace(
            turn,
            started_us=START_US + 2_000_000 * index,
            phase_match_s=0.02,
            phase_blend_s=0.03,
            phase_prefill_s=0.04,
            phase_store_s=0.5,
            prompt_text=PROMPT,
        )
        for index, turn in enumerate(made.turns)
    ]
    return dataclasses.replace(made, turns=turns)


def test_a_conversation_as_spans(result):
    """Catches turns of another item or arm, a phase that is lost, and prompts that are no messages."""
    stranger = dataclasses.replace(result.turns[0], arm="dense")
    first, second = traces_of(dataclasses.replace(result, turns=[*result.turns, stranger]))
    assert first.trace_id != second.trace_id
    assert [span.name for span in first.root.children] == ["1 Reader", "2 Reader"]
    assert len(first.trace_id) == 32
    names = [(depth, span.name) for depth, span in spans_of(second.root)]
    turn = [(2, "first token (reuse)"), (3, "match"), (3, "blend"), (3, "prefill"), (2, "decode"), (2, "store")]
    assert names == [(0, "kvcomm, item item-1"), (1, "1 Reader"), *turn, (1, "2 Reader"), *turn]
    reader = second.root.children[0]
    assert reader.inputs["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
    ]
    assert reader.outputs["choices"][0]["message"]["content"] == "!"
    assert (second.question, second.answer, second.expected, second.correct) == ("Who?", "!", "!", False)
    assert (reader.attributes["kvcomm.mode"], reader.attributes["kvcomm.reused_tokens"]) == ("reuse", 90)
    assert "kvcomm.kl_next_token" not in reader.attributes, "what is unknown is absent"


def test_times_are_the_measured_ones(result):
    """Catches nanoseconds of the wrong size, a child outside its parent, and turns laid end to end despite a pause."""
    first, second = traces_of(result)
    assert first.root.start_ns == START_US * 1000
    assert second.root.children[1].start_ns - first.root.start_ns == 6_000_000_000
    turn = second.root.children[0]
    token, decode, store = turn.children
    assert token.end_ns - token.start_ns == 100_000_000
    assert decode.end_ns - decode.start_ns == 1_000_000_000
    assert store.end_ns == turn.end_ns == turn.start_ns + 1_600_000_000
    assert [child.start_ns - token.start_ns for child in token.children] == [0, 20_000_000, 50_000_000]
    for _, span in spans_of(second.root):
        assert all(span.start_ns <= child.start_ns <= child.end_ns <= span.end_ns for child in span.children)
    assert turn.attributes["kvcomm.start"] == "recorded"


def test_earlier_results_are_shown_end_to_end(result):
    """Catches all turns at the start of the trial, and a start that passes for recorded."""
    turns = [dataclasses.replace(turn, started_us=None) for turn in result.turns]
    first, second = traces_of(dataclasses.replace(result, turns=turns))
    assert first.root.start_ns == int(result.trial.started_at.timestamp() * 1e9)
    assert first.root.end_ns == second.root.start_ns
    assert second.root.children[0].attributes["kvcomm.start"] == "estimated"


def test_tools_and_rounds(result):
    """Catches a tool's call that is missing or part of a phase, and two turns of an agent with the same name."""
    turns = [dataclasses.replace(turn, tool="python", tool_s=0.25, tool_text="4", round=1) for turn in result.turns]
    first, _ = traces_of(dataclasses.replace(result, turns=turns))
    turn = first.root.children[0]
    assert turn.name == "1 Reader, round 2"
    tool = turn.children[-1]
    assert (tool.name, tool.kind, tool.outputs, tool.end_ns - tool.start_ns) == ("python", "TOOL", "4", 250_000_000)


def test_random_tokens_are_no_conversation(result):
    """Catches empty traces of a timing."""
    turns = [dataclasses.replace(turn, prompt_text=None, output_text=None) for turn in result.turns]
    assert list(traces_of(dataclasses.replace(result, turns=turns))) == []
