"""Inputs that prompts of a conversation have in common, in any of its calls.

Stretches that go back to one text may overlap: a reader quotes all of it, another the second half. The text is then cut
where any of them begins or ends, so that each of them is made of whole pieces.
"""

from dataclasses import dataclass
from itertools import pairwise

from harness.traces.chunks import Calls, Chunk, cut_out, open_chunks
from harness.traces.earlier_text import EarlierText, Piece
from harness.traces.tokens import estimated_spans

Stretch = tuple[int, int]
"""First token, and the token after the last."""


@dataclass(frozen=True, slots=True)
class _Quote:
    """A stretch of a chunk that goes back to an earlier one."""

    chunk: int
    start: int
    source: int
    """The index of the earlier chunk."""
    at: int
    """The token at which it begins there."""
    tokens: int

    def has(self, piece: Stretch) -> bool:
        """Return whether a piece of the source is part of the quotation."""
        return self.at <= piece[0] and piece[1] <= self.at + self.tokens


def cut_common(calls: Calls, shortest: int) -> None:
    """Cut the chunks that are no answers where they have stretches of ``shortest`` tokens in common, in place."""
    chunks = [chunk for call in calls for chunk in open_chunks(call)]
    spans: list[list[tuple[int, int]]] = []
    by_source: dict[int, list[_Quote]] = {}
    for quote in _quotes(calls, shortest, spans):
        by_source.setdefault(quote.source, []).append(quote)
    stretches: dict[int, set[tuple[int, int]]] = {}
    for source, quotes in by_source.items():
        for piece in _pieces(quotes, shortest):
            theirs = _characters(spans[source], piece)
            stretches.setdefault(source, set()).add(theirs)
            for quote in quotes:
                moved = quote.start - quote.at
                if quote.has(piece):
                    mine = _characters(spans[quote.chunk], (piece[0] + moved, piece[1] + moved))
                    # White space is not compared token by token, but a hole has one content.
                    if chunks[quote.chunk].text[slice(*mine)] == chunks[source].text[slice(*theirs)]:
                        stretches.setdefault(quote.chunk, set()).add(mine)
    cut: dict[Chunk, list[Chunk]] = {
        chunks[index]: cut_out(chunks[index], sorted(at)) for index, at in stretches.items()
    }
    for part in (part for call in calls for message in call for part in message):
        part[:] = [piece for chunk in part for piece in cut.get(chunk, [chunk])]


def _quotes(calls: Calls, shortest: int, spans: list[list[tuple[int, int]]]) -> list[_Quote]:
    """Return what the chunks quote of those of earlier calls. Append to ``spans`` the characters of each chunk's
    tokens."""
    earlier = EarlierText(shortest)
    quotes: list[_Quote] = []
    for call in calls:
        first = len(spans)
        looked_for = []
        for chunk in open_chunks(call):
            tokens, characters = estimated_spans(chunk.text)
            found = earlier.find(tokens)
            quotes += [_Quote(len(spans), run.start, run.piece.key, run.at, len(run)) for run in found.runs]
            looked_for.append(found)
            spans.append(characters)
        for index, found in enumerate(looked_for, start=first):
            earlier.add(found, Piece(len(found.tokens), "", is_answer=False, key=index))
    return quotes


def _pieces(quotes: list[_Quote], shortest: int) -> list[Stretch]:
    """Return the pieces of a chunk that quotations of it are made of, without those that cutting made too short."""
    cuts = sorted({end for quote in quotes for end in (quote.at, quote.at + quote.tokens)})
    pieces = pairwise(cuts)
    return [
        piece for piece in pieces if piece[1] - piece[0] >= shortest // 2 and any(quote.has(piece) for quote in quotes)
    ]


def _characters(spans: list[tuple[int, int]], tokens: Stretch) -> tuple[int, int]:
    return spans[tokens[0]][0], spans[tokens[1] - 1][1]
