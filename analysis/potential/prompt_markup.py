"""Prompts that a chat template rendered, taken apart into messages again.

Three kinds of markup are known: ChatML (Qwen, SmolLM2), Llama 3's and Mistral's. They are those of the models that the
engine serves.
"""

import re

Said = list[tuple[str, str]]
"""Role and text of each message."""

_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n?|\Z)", re.DOTALL)
_LLAMA = re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>|\Z)", re.DOTALL)
_MISTRAL = re.compile(
    r"\[SYSTEM_PROMPT\](?P<system>.*?)\[/SYSTEM_PROMPT\]|\[INST\] ?(?P<user>.*?) ?\[/INST\]|(?P<assistant>[^\[]+?)</s>",
    re.DOTALL,
)
_BEGIN = re.compile(r"(?:<\|begin_of_text\|>|<s>)?\s*")


def messages_of(prompt: str) -> Said | None:
    """Return the messages of a prompt, without the empty one that the answer would fill. Return None if its markup is
    not known, or if something is left between the messages."""
    begin = _BEGIN.match(prompt)
    start = begin.end() if begin else 0
    for markup in (_CHATML, _LLAMA, _MISTRAL):
        said: Said = []
        position = start
        for found in markup.finditer(prompt, start):
            if prompt[position : found.start()].strip():
                break
            role, text = _role_and_text(found)
            said.append((role, text))
            position = found.end()
        if said and not prompt[position:].strip():
            return said[:-1] if said[-1] == ("assistant", "") else said
    return None


def _role_and_text(found: re.Match[str]) -> tuple[str, str]:
    if found.re is not _MISTRAL:
        return found[1], found[2]
    role = next(name for name, text in found.groupdict().items() if text is not None)
    return role, found[role]
