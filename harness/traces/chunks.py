"""Chunks: the text of a message on its way to segments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.traces.tokens import estimated

SHORTEST_ANSWER = 8
"""Estimated tokens from which an answer is looked for inside other text. A shorter one may stand there by chance."""


@dataclass(slots=True, eq=False)
class Chunk:
    """A stretch of one part of a message."""

    text: str
    hole: str | None = None
    """The placeholder whose content it is; None if it is no answer."""
    is_common: bool = False
    """Whether other prompts of the conversation have it in common."""


Part = list[Chunk]
Calls = Sequence[Sequence[Sequence[Part]]]
"""The parts of the messages of the calls of a conversation."""


def open_chunks(call: Sequence[Sequence[Part]]) -> Iterator[Chunk]:
    """Yield the chunks of a call that are no answers."""
    return (chunk for message in call for part in message for chunk in part if chunk.hole is None)


def around(text: str, core: str, hole: str) -> Part:
    """Return ``core`` as the content of a hole, and the white space before and after it in ``text``."""
    start = text.index(core)
    pieces = (Chunk(text[:start]), Chunk(core, hole), Chunk(text[start + len(core) :]))
    return [piece for piece in pieces if piece.text]


def split_at_answers(text: str, answers: Mapping[str, str]) -> Part:
    """Divide a text at the earlier answers in it, the longest first. ``answers`` has the placeholder of each."""
    whole = text.strip()
    if whole in answers:
        return around(text, whole, answers[whole])
    chunks = [Chunk(text)]
    for answer in sorted(answers, key=len, reverse=True):
        if len(answer) < len(text) and answer in text and len(estimated(answer)) >= SHORTEST_ANSWER:
            chunks = [piece for chunk in chunks for piece in _split(chunk, answer, answers[answer])]
    return chunks


def _split(chunk: Chunk, answer: str, hole: str) -> Iterator[Chunk]:
    if chunk.hole is not None:
        yield chunk
        return
    for index, between in enumerate(chunk.text.split(answer)):
        if index:
            yield Chunk(answer, hole)
        if between:
            yield Chunk(between)


def cut_out(chunk: Chunk, stretches: Sequence[tuple[int, int]]) -> Part:
    """Cut a chunk into stretches of characters, which become common, and the text between them. If two overlap, the
    second one is left out."""
    pieces: Part = []
    end = 0
    for start, stop in stretches:
        if start < end:
            continue
        if start > end:
            pieces.append(Chunk(chunk.text[end:start]))
        pieces.append(Chunk(chunk.text[start:stop], is_common=True))
        end = stop
    if end < len(chunk.text):
        pieces.append(Chunk(chunk.text[end:]))
    return pieces
