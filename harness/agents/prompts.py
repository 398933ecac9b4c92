"""Rendering of a role as the segments of its chat prompt, in the markup of the model's own tokenizer."""

import re
from collections.abc import Collection, Sequence
from datetime import date
from typing import Literal, Protocol

from harness.agents.roles import HOLE, PLACED, Role

Segment = tuple[Literal["text", "hole"], str]
"""A piece of fixed text, or the name of a placeholder."""

Agent = tuple[int, str]
"""An agent's id and the name of its role."""

TODAY = date(2024, 7, 26)
"""The date that chat templates see. Some write the day into the prompt, and a trial must not depend on it. This date
is the default of Llama 3.1's template."""

# Templates ask for the day through a function of transformers. A template accepts no function in its place, but a macro
# of that name, put before the template, replaces it.
_STRFTIME_NOW = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('{code}', '{TODAY.strftime(code)}')" for code in ("%d", "%m", "%Y", "%b", "%B", "%A"))
    + " }}{%- endmacro %}{{ '' }}"
)

# While the chat template runs, the n-th character of Unicode's private use area stands for hole n. No prompt and no
# markup contains one, and no template can mistake it for its own syntax.
_SENTINEL = re.compile("([\ue000-\uf8ff])")


class ChatTokenizer(Protocol):
    """The methods of a transformers tokenizer that rendering needs."""

    def get_chat_template(self) -> str:
        """Return the tokenizer's own template. Raise ``ValueError`` if it has none."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, chat_template: str, tokenize: bool, add_generation_prompt: bool
    ) -> object:
        """Return the conversation as text (with ``tokenize=False``)."""


def render_segments(
    role: Role,
    upstream: Sequence[Agent],
    tokenizer: ChatTokenizer,
    *,
    remembered: Sequence[Agent] = (),
    with_tool: Collection[int] = (),
) -> list[Segment]:
    """Render the whole prompt of ``role`` as alternating text and holes, up to where the answer begins.

    ``upstream`` lists the agents whose answers the role reads, in reading order. ``remembered`` lists the agents whose
    answers of the last round it reads. ``with_tool`` holds the ids of upstream agents with a tool, whose result follows
    their answer. The holes are ``user_question``, an ``agent_<id>_history_1`` for each remembered agent, an
    ``agent_<id>_current`` for each upstream agent and a ``condition_<id>_current`` for each upstream agent with a tool.
    Raise ``ValueError`` if the chat template drops, repeats or reorders them.
    """
    user = _expand_upstream(role.user, upstream, remembered, with_tool)
    holes = HOLE.findall(user)
    sentinels = [chr(0xE000 + index) for index in range(len(holes))]
    remaining = iter(sentinels)
    user = HOLE.sub(lambda _: next(remaining), user)
    text = render_chat(tokenizer, [("system", role.system), ("user", user)], add_generation_prompt=True)
    pieces = _SENTINEL.split(text)
    if pieces[1::2] != sentinels:
        raise ValueError(f"the tokenizer's chat template does not keep the holes of {role.name}: {', '.join(holes)}")
    segments: list[Segment] = [("text", pieces[0])]
    for hole, following in zip(holes, pieces[2::2], strict=True):
        segments += [("hole", hole), ("text", following)]
    return segments


def chat_header(tokenizer: ChatTokenizer) -> str:
    """Return the text before the content of a plain user message, which is the context of a question's base KV."""
    sentinel = "\ue000"
    header, found, _ = render_chat(tokenizer, [("user", sentinel)], add_generation_prompt=False).partition(sentinel)
    if not found:
        raise ValueError("the tokenizer's chat template drops the content of a user message")
    return header


def _expand_upstream(
    user: str, upstream: Sequence[Agent], remembered: Sequence[Agent], with_tool: Collection[int]
) -> str:
    """Replace each ``{agent:NAME}`` with the hole of that role's answer, and ``{upstream}`` with a name line and a hole
    for each other answer that the role reads. The result of a tool follows the answer."""
    placed = set(PLACED.findall(user))
    ids = {name: agent_id for agent_id, name in upstream}

    def answer(agent_id: int, name: str) -> str:
        if agent_id not in with_tool:
            return f"{{agent_{agent_id}_current}}"
        result = f"The tool of {name} (agent {agent_id}) returned:\n{{condition_{agent_id}_current}}"
        return f"{{agent_{agent_id}_current}}\n\n{result}"

    blocks = [
        f"In the last round, {name} (agent {agent_id}) answered:\n{{agent_{agent_id}_history_1}}"
        for agent_id, name in remembered
    ]
    blocks += [
        f"{name} (agent {agent_id}):\n{answer(agent_id, name)}" for agent_id, name in upstream if name not in placed
    ]
    user = PLACED.sub(lambda mark: answer(ids[mark[1]], mark[1]), user)
    if blocks:
        return user.replace("{upstream}", "\n\n".join(blocks))
    # If the role reads nobody, drop the paragraph of the mark.
    return re.sub(r"\{upstream\}\n*", "", user).strip()


def render_chat(tokenizer: ChatTokenizer, messages: list[tuple[str, str]], *, add_generation_prompt: bool) -> str:
    """Render messages, each with its role, by the tokenizer's chat template."""
    conversation = [{"role": role, "content": content} for role, content in messages]
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _STRFTIME_NOW + template
    text = tokenizer.apply_chat_template(
        conversation, chat_template=template, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    assert isinstance(text, str)  # noqa: S101 - what tokenize=False means
    return text
