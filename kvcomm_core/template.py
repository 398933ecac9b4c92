"""Prompts as tokens: fixed text segments with holes, each tokenised once.

Tokens, not strings, are authoritative. A template alternates text and holes, ``p0 [hole 1] p1 ... [hole n] pn``, with
an empty text between adjacent holes. Every method gets its prompt from :meth:`Template.fill`, so all methods see the
same token ids.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "hole"]
TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` to ``stop`` of a prompt."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def before(self, stop: int) -> "Span":
        """Return the part of the span that lies before token ``stop``."""
        return Span(min(self.start, stop), min(self.stop, stop))

    def overlap(self, other: "Span") -> int:
        """Return how many tokens lie in both spans."""
        return max(0, min(self.stop, other.stop) - max(self.start, other.start))

    def of(self, token_ids: TokenIds) -> TokenIds:
        """Return the prompt's tokens in the span."""
        return token_ids[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A filled template: its token ids, and the span of each text and each hole."""

    token_ids: TokenIds
    texts: tuple[Span, ...]
    """Spans of p0 .. pn."""
    holes: tuple[Span, ...]
    """Spans of holes 1 .. n; ``texts[i + 1]`` follows ``holes[i]``."""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def pieces(self) -> tuple[Span, ...]:
        """All spans in order: texts at even indices, holes at odd ones. A piece may be empty."""
        between = zip(self.holes, self.texts[1:], strict=True)
        return (self.texts[0], *(span for pair in between for span in pair))


@dataclass(frozen=True, slots=True)
class Template:
    """The fixed part of one agent's prompts."""

    texts: tuple[TokenIds, ...]
    """Token ids of p0 .. pn: one more than there are holes; any but the last may be empty."""
    holes: tuple[str, ...]
    """Placeholder ids of holes 1 .. n; one may occur several times."""

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.holes) + 1:
            raise ValueError(f"{len(self.texts)} texts around {len(self.holes)} holes; allowed: one text more")
        if not self.texts[-1]:
            raise ValueError("the last text is empty; allowed: at least one token, which starts the answer")

    @classmethod
    def from_pieces(cls, pieces: Iterable[tuple[Kind, str]], encode: Callable[[str], Sequence[int]]) -> "Template":
        """Build a template from ``("text", content)`` and ``("hole", placeholder id)`` pieces in any order.

        ``encode`` turns one text into token ids and adds no special tokens of its own. Adjacent texts are joined
        before they are encoded.
        """
        texts, holes = [""], []
        for kind, value in pieces:
            if kind == "text":
                texts[-1] += value
            else:
                holes.append(value)
                texts.append("")
        return cls(tuple(tuple(encode(text)) if text else () for text in texts), tuple(holes))

    def fill(self, values: Mapping[str, TokenIds]) -> Prompt:
        """Return the prompt with ``values[placeholder]`` in each hole. Raise ``KeyError`` for a hole without a
        value."""
        token_ids: list[int] = []
        text_spans: list[Span] = []
        hole_spans: list[Span] = []

        def append(ids: TokenIds, spans: list[Span]) -> None:
            spans.append(Span(len(token_ids), len(token_ids) + len(ids)))
            token_ids.extend(ids)

        append(self.texts[0], text_spans)
        for hole, text in zip(self.holes, self.texts[1:], strict=True):
            append(values[hole], hole_spans)
            append(text, text_spans)
        return Prompt(tuple(token_ids), tuple(text_spans), tuple(hole_spans))


def shared_prefix(a: TokenIds, b: TokenIds) -> int:
    """Return how many tokens the two begin with in common."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    return next(index for index in range(shorter) if a[index] != b[index])
