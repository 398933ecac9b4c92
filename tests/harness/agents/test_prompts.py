"""Roles and their rendered prompts, with a ChatML tokenizer of a few lines."""

from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest

from harness.agents import Role, chat_header, render_segments, roles_for
from harness.agents.prompts import Segment
from harness.agents.roles import DECIDER, WORKERS, load_role
from harness.topology import build_topology

GOLDEN = Path(__file__).parent / "golden"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TemplateTokenizer:
    """The chat-template half of a tokenizer."""

    def __init__(self, template: str) -> None:
        self.template = jinja2.Template(template, keep_trailing_newline=True)

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        return str(self.template.render(messages=conversation, add_generation_prompt=add_generation_prompt))


TOKENIZER = TemplateTokenizer(CHATML)


def joined(segments: list[Segment]) -> str:
    return "".join(value if kind == "text" else f"{{{value}}}" for kind, value in segments)


@pytest.mark.parametrize("workload", WORKERS)
def test_prompts_read_as_recorded(workload: str) -> None:
    """Golden files: catches any change of what an agent is told. A wanted change is made by editing the file too."""
    roles = roles_for(workload, len(WORKERS[workload]) + 1)
    for agent_id, role in enumerate(roles, start=1):
        upstream = [
            (reader, roles[reader - 1].name) for reader in build_topology("fully_connected", agent_id).read_by(agent_id)
        ]
        golden = GOLDEN / workload / f"{agent_id}_{role.name.lower().replace(' ', '_')}.txt"
        assert joined(render_segments(role, upstream, TOKENIZER)) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("workload", WORKERS)
@pytest.mark.parametrize("agents", [2, 3, 5, 9])
def test_the_last_decides_and_workers_start_over(workload: str, agents: int) -> None:
    """Catches a decision agent that is missing or comes early, and a crash with more agents than roles."""
    names = [role.name for role in roles_for(workload, agents)]
    workers = WORKERS[workload]
    assert len(names) == agents
    assert names[-1] == DECIDER
    assert DECIDER not in names[:-1]
    assert names[:-1] == [workers[index % len(workers)] for index in range(agents - 1)]


def test_segments_alternate_and_holes_stand_on_their_own_lines() -> None:
    """Catches a hole glued to a word, whose tokens would differ from those of the whole prompt."""
    for workload in WORKERS:
        for role in roles_for(workload, 5):
            segments = render_segments(role, [(1, "First"), (2, "Second")], TOKENIZER)
            kinds = [kind for kind, _ in segments]
            assert kinds == ["text", "hole"] * (len(segments) // 2) + ["text"]
            assert [value for kind, value in segments if kind == "hole"] == [
                "user_question",
                "agent_1_current",
                "agent_2_current",
            ]
            texts = [value for kind, value in segments if kind == "text"]
            assert all(text.endswith("\n") for text in texts)
            assert all(text.startswith("\n") for text in texts[1:])


def test_order_of_holes_follows_the_prompt_not_the_ids() -> None:
    """Catches holes sorted by name or number: the pieces of text would go to the wrong holes."""
    role = Role("R", "S", "{upstream}\n\nthen\n{user_question}\nend")
    segments = render_segments(role, [(10, "Ten"), (2, "Two")], TOKENIZER)
    assert [value for kind, value in segments if kind == "hole"] == [
        "agent_10_current",
        "agent_2_current",
        "user_question",
    ]
    assert joined(segments) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nTen (agent 10):\n{agent_10_current}\n\n"
        "Two (agent 2):\n{agent_2_current}\n\nthen\n{user_question}\nend<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("workload", WORKERS)
def test_later_rounds_read_the_last_one_first(workload: str) -> None:
    """Golden file of the decision agent. Catches answers of the last round passed off as those of this one."""
    roles = roles_for(workload, 2)
    team = [(agent_id, role.name) for agent_id, role in enumerate(roles, start=1)]
    golden = GOLDEN / workload / "later_final_refer.txt"
    segments = render_segments(roles[1], team[:1], TOKENIZER, remembered=team)
    assert joined(segments) == golden.read_text(encoding="utf-8")
    assert [kind for kind, _ in segments] == ["text", "hole"] * (len(segments) // 2) + ["text"]


def test_a_tool_result_follows_the_answer_of_the_agent_that_used_it() -> None:
    """Catches a result shown under another agent's name, and a hole for an agent that has no tool or is not read."""
    role = Role("R", "S", "{user_question}\n\n{upstream}\n\nend")
    segments = render_segments(role, [(1, "One"), (2, "Two")], TOKENIZER, with_tool={2, 3})
    assert joined(segments) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n{user_question}\n\nOne (agent 1):\n{agent_1_current}\n\n"
        "Two (agent 2):\n{agent_2_current}\n\nThe tool of Two (agent 2) returned:\n{condition_2_current}\n\n"
        "end<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content }}",  # drops the user message
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{{ messages[1].content | reverse }}",
    ],
)
def test_a_chat_template_that_loses_holes_is_refused(template: str) -> None:
    """Catches prompts without a question, silently."""
    role = Role("R", "S", "{user_question}\n{upstream}\nend")
    with pytest.raises(ValueError, match="does not keep the holes of R: user_question, agent_1_current"):
        render_segments(role, [(1, "One")], TemplateTokenizer(template))


def test_chat_header_is_what_stands_before_a_plain_user_message() -> None:
    """Catches a header with another system message than the model's template puts there by default."""
    assert chat_header(TOKENIZER) == "<|im_start|>user\n"
    with_default = "{% if messages[0].role != 'system' %}<s>Be nice.</s>{% endif %}" + CHATML
    assert chat_header(TemplateTokenizer(with_default)) == "<s>Be nice.</s><|im_start|>user\n"
    with pytest.raises(ValueError, match="drops the content"):
        chat_header(TemplateTokenizer("nothing"))


GOOD = "[system]\nS\n[user]\n{user_question}\n{upstream}\nend\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("end", "{answer}"),
            r"role\.txt: unknown hole \{answer\}; allowed: \{user_question\}",
        ),
        (lambda text: text.replace("{upstream}", "{agent_1_current}"), r"unknown hole \{agent_1_current\}"),
        (lambda text: text.replace("S\n", "{user_question}\n", 1), r"hole \{user_question\} in the system part"),
        (lambda text: text.replace("{upstream}\n", ""), r"hole \{upstream\} must stand exactly once"),
        (lambda text: text + "{user_question}\n", r"hole \{user_question\} must stand exactly once"),
        (lambda text: text.replace("{user_question}", "Q: {user_question}"), r"must stand exactly once, alone"),
        (lambda text: text.replace("[user]\n", ""), r"must be a \[system\] part followed by a \[user\] part"),
        (lambda text: "", r"must be a \[system\] part"),
    ],
)
def test_malformed_role_files_are_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    """Catches a hole that would be sent to the model as literal text."""
    path = tmp_path / "role.txt"
    path.write_text(GOOD)
    assert load_role("R", path) == Role("R", "S", "{user_question}\n{upstream}\nend")
    path.write_text(change(GOOD))
    with pytest.raises(ValueError, match=message) as caught:
        load_role("R", path)
    assert str(path) in str(caught.value)


def test_bad_input_names_value_and_what_is_allowed() -> None:
    """Catches a KeyError for a workload without roles."""
    with pytest.raises(ValueError, match="workload is 'chess'; with roles: recall, gsm8k"):
        roles_for("chess", 3)
    with pytest.raises(ValueError, match="agents is 1; allowed: 2 or more"):
        roles_for("recall", 1)
