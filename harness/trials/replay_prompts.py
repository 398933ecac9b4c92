"""Prompts of a replayed log, in the markup of the model's own tokenizer, as templates.

The text of a log is content, never markup: ``<|im_start|>`` in it becomes the tokens of these characters. Markup,
fixed text and the contents of holes are each tokenised apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.agents.prompts import ChatTokenizer, render_chat
from harness.traces.segments import Segment, SegmentedCall
from kvcomm_core.template import Template, TokenIds

_FIRST, _LAST = 0xE000, 0xF8FF
"""While the chat template runs, characters of Unicode's private use area stand for texts and holes in turn."""

Encode = Callable[[str], TokenIds]


@dataclass(frozen=True, slots=True)
class Encoding:
    """The model's tokenizer, and how it reads markup and content."""

    tokenizer: ChatTokenizer
    markup: Encode
    content: Encode


def template_of(call: SegmentedCall, encoding: Encoding) -> Template:
    """Return a call's prompt as a template. Raise ``ValueError`` if the chat template does not keep its messages."""
    turns = turns_of(call.messages)
    segments = [segment for _, parts in turns for segment in parts]
    if len(segments) > _LAST - _FIRST:
        raise ValueError(f"{call.call.place}: {len(segments)} pieces of text; allowed: {_LAST - _FIRST} in a prompt")
    marks = iter(range(_FIRST, _LAST))
    messages = [(role, "".join(chr(next(marks)) for _ in parts)) for role, parts in turns]
    text = render_chat(encoding.tokenizer, messages, add_generation_prompt=True)
    markup = [""]
    kept = 0
    for character in text:
        if ord(character) == _FIRST + kept and kept < len(segments):
            kept += 1
            markup.append("")
        else:
            markup[-1] += character
    if kept < len(segments):
        raise ValueError(
            f"{call.call.place}: the tokenizer's chat template does not keep message {kept + 1} of the prompt"
        )
    texts: list[TokenIds] = [encoding.markup(markup[0]) if markup[0] else ()]
    holes: list[str] = []
    for (kind, value), after in zip(segments, markup[1:], strict=True):
        if kind == "hole":
            holes.append(value)
            texts.append(())
        else:
            texts[-1] += encoding.content(value)
        if after:
            texts[-1] += encoding.markup(after)
    return Template(tuple(texts), tuple(holes))


def whole_prompt(token_ids: TokenIds, hole: str) -> Template:
    """Return a template that is one hole, for a prompt without a template: nothing of it is known beforehand. Its last
    token is text, as a template needs some."""
    return Template(((), token_ids[-1:]), (hole,))


def turns_of(messages: Sequence[tuple[str, Sequence[Segment]]]) -> list[tuple[str, list[Segment]]]:
    """Return messages as every chat template takes them: perhaps a system message, then the user's and the assistant's
    in turn, the user's first."""
    turns: list[tuple[str, list[Segment]]] = []
    for role, segments in messages:
        if role in ("system", "developer", "tools") and (not turns or turns[-1][0] == "system"):
            role = "system"
        elif role != "assistant" or not any(kind != "system" for kind, _ in turns):
            role = "user"
        if not segments:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].append(("text", "\n\n"))
            turns[-1][1].extend(segments)
        else:
            turns.append((role, list(segments)))
    return turns or [("user", [("text", " ")])]
