"""The prompts of the ttft workload: lengths as documented, tokens that can be told apart and drawn again."""

import pytest

from harness.workloads.ttft import JOINT_TOKENS, TokenSource, TtftSpec, build_templates


def test_prompts_have_the_documented_lengths():
    """Catches a table row that claims another prompt length than was timed."""
    spec = TtftSpec(prefix_tokens=5, input_tokens=7, output_tokens=3)
    source = TokenSource(50, seed=0)
    templates = build_templates(spec, 4, source)
    assert list(templates) == ["1", "2", "3", "4"]
    answers = {f"agent_{agent}_current": source.draw(3, f"answer {agent}") for agent in range(1, 5)}
    for agent in range(1, 5):
        template = templates[str(agent)]
        assert template.holes == ("user_question", *(f"agent_{other}_current" for other in range(1, agent)))
        prompt = template.fill({"user_question": source.draw(7, "question"), **answers})
        assert len(prompt) == spec.prompt_tokens(agent) == 5 + 7 + 3 * (agent - 1) + JOINT_TOKENS * agent
        assert [len(span) for span in prompt.texts] == [5] + [JOINT_TOKENS] * agent


def test_the_defaults_are_table_2():
    """Catches a default that silently changes what the shipped sweeps time: 5 agents read 1536 to 3584 tokens."""
    spec = TtftSpec()
    without_joints = [spec.prompt_tokens(agent) - agent * JOINT_TOKENS for agent in range(1, 6)]
    assert without_joints == [1536, 2048, 2560, 3072, 3584]
    assert (spec.anchors, spec.decode) == (20, False)


def test_tokens_are_drawn_by_purpose_and_seed():
    """Catches samples that are exact repeats of each other, which every method would find in its cache."""
    source = TokenSource(1000, seed=0)
    assert source.draw(20, "a") == TokenSource(1000, seed=0).draw(20, "a")
    assert len({source.draw(20, "a"), source.draw(20, "b"), TokenSource(1000, seed=1).draw(20, "a")}) == 3
    drawn = set(TokenSource(3, seed=0).draw(200, "a"))
    assert drawn == {0, 1, 2}, "every token of the vocabulary, and none beyond it"


@pytest.mark.parametrize("field", ["prefix_tokens", "input_tokens", "output_tokens", "anchors", "repeats"])
def test_nothing_may_be_empty(field):
    """Catches a timing of nothing."""
    with pytest.raises(ValueError, match=f"workload.{field} is 0; allowed: 1 or more"):
        TtftSpec(**{field: 0})
