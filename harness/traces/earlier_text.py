"""Earlier text in later prompts: stretches of a text that stood in an earlier one, wherever that was.

A text is a message, a part of one, or an answer. Each of its stretches goes back to the *piece* in which it stood
first: a later text that quotes an earlier one adds only what is new.

No stretch of ``shortest`` tokens is missed: windows of half as many are indexed at every ``stride``-th token of the
earlier texts, so that each such stretch contains an indexed one, and looked up at every token of the later. From there
a stretch is extended as far as it goes. The text is covered from left to right. If a stretch stands in several places,
the longest one counts, then the earliest. Text deep inside a quotation is indexed only where it stood first. If a
window still stands in many texts, its first places are kept.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.traces.hashing import prefix_hashes, window_hashes
from harness.traces.tokens import Tokens

SLACK = 2
"""Tokens that may miss at either end of a whole piece: a tokenizer may merge them with what surrounds them."""

_PLACES = 8
"""Maximum number of places that are kept of a window."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A text when it was new."""

    tokens: int
    producer: str
    """The agent that answered, or where an input came from."""
    is_answer: bool
    key: int = -1
    """A number for the caller's own use."""


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a text that stood in a piece."""

    start: int
    stop: int
    """Tokens of the text."""
    piece: Piece
    at: int
    """The token of the piece at which the stretch begins."""

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole piece."""
        return self.at <= SLACK and self.at + len(self) >= self.piece.tokens - SLACK


@dataclass(frozen=True, slots=True)
class Found:
    """A text that was looked for."""

    tokens: Tokens
    prefixes: Tokens
    """The hashes of its prefixes."""
    runs: tuple[Run, ...]
    """Its stretches that stood in earlier texts, in order and without overlap. Adjacent ones may each be shorter than
    ``shortest``, where a stretch goes back to several pieces."""

    @property
    def key(self) -> tuple[int, int]:
        """Length and hash of the whole text."""
        return len(self.tokens), int(self.prefixes[-1])


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that was added: its tokens, and the pieces that cover it from start to end."""

    tokens: Tokens
    runs: tuple[Run, ...]


class _Shelf:
    """Texts that were added, up to a number of tokens."""

    def __init__(self) -> None:
        self.tokens = 0
        self.texts: list[_Text] = []
        self.whole: dict[tuple[int, int], _Text] = {}
        """By length and hash."""
        self.pieces: set[Piece] = set()
        self.windows: dict[int, tuple[int, ...]] = {}
        """Places of windows by their hash: the index of the text, times 2^32, plus the token."""


class EarlierText:
    """The texts so far, of one conversation or of all."""

    def __init__(self, shortest: int) -> None:
        """``shortest`` is the number of tokens from which a stretch counts; at least 2."""
        if shortest < 2:
            raise ValueError(f"shortest is {shortest}; allowed: 2 or more")
        self.shortest = shortest
        self._window = shortest // 2
        self._stride = shortest - self._window + 1
        self._shelves = [_Shelf(), _Shelf()]
        """The texts since the last ``forget``, and those before."""

    @property
    def tokens(self) -> int:
        """Tokens of all texts that are kept."""
        return sum(shelf.tokens for shelf in self._shelves)

    def forget(self) -> None:
        """Forget the texts added before the last call of this function."""
        self._shelves = [_Shelf(), self._shelves[0]]

    def find(self, tokens: Tokens) -> Found:
        """Look for a text's stretches in earlier texts."""
        found = Found(tokens, prefix_hashes(tokens), ())
        if len(tokens) < self.shortest:
            return found
        for shelf in self._shelves:
            known = shelf.whole.get(found.key)
            if known is not None:
                return replace(found, runs=known.runs)
        runs: list[Run] = []
        covered = start = 0
        windows = window_hashes(found.prefixes, self._window).tolist()
        recent, before = (shelf.windows for shelf in self._shelves)
        while start < len(windows):
            window = windows[start]
            stretch = None
            if window in recent or window in before:  # looked up here, because most are not
                stretch = self._longest(tokens, start, covered, window)
            if stretch is None:
                start += 1
                continue
            text, first, last, at = stretch
            runs += _origins(text, first, last, at)
            covered = start = last
        return replace(found, runs=tuple(runs))

    def add(self, found: Found, piece: Piece) -> None:
        """Add a text; ``piece`` stands for what is new in it."""
        shelf = self._shelves[0]
        if len(found.tokens) < self.shortest or found.key in shelf.whole:
            return
        text = _Text(found.tokens, _filled(found.runs, piece, len(found.tokens)))
        shelf.whole[found.key] = text
        base = len(shelf.texts) << 32
        shelf.texts.append(text)
        shelf.tokens += len(text.tokens)
        shelf.pieces.add(piece)
        deep = self._deep([run for run in found.runs if run.piece in shelf.pieces], len(text.tokens))
        for index, window in enumerate(window_hashes(found.prefixes, self._window)[:: self._stride].tolist()):
            at = index * self._stride
            places = shelf.windows.get(window, ())
            if len(places) < _PLACES and not any(start <= at < stop for start, stop in deep):
                shelf.windows[window] = (*places, base + at)

    def _deep(self, runs: Sequence[Run], tokens: int) -> list[tuple[int, int]]:
        """Return the tokens at which windows begin that need not be indexed: a stretch that has such a window, and goes
        beyond its run, has ``shortest`` tokens of the run, and is found where these stood first."""
        margin = self.shortest - self._window
        ends = [(run.start + margin * (run.start > 0), run.stop - margin * (run.stop < tokens)) for run in runs]
        return [(start, stop - self._window + 1) for start, stop in ends if stop - start >= self._window]

    def _longest(self, tokens: Tokens, start: int, covered: int, window: int) -> tuple[_Text, int, int, int] | None:
        """Return the longest stretch around the window at ``start``, behind ``covered``: its earlier text, the tokens
        from which to which it goes, and the token at which it begins there. None if it is too short."""
        best: tuple[_Text, int, int, int] | None = None
        longest = self.shortest - 1
        for shelf in reversed(self._shelves):
            for place in shelf.windows.get(window, ()):
                text, at = shelf.texts[place >> 32], place & 0xFFFFFFFF
                left = _common(tokens[covered:start][::-1], text.tokens[:at][::-1])
                right = _common(tokens[start:], text.tokens[at:])
                if left + right > longest:
                    longest = left + right
                    best = text, start - left, start + right, at - left
        return best


def _origins(text: _Text, start: int, stop: int, at: int) -> list[Run]:
    """Return the pieces of the ``stop - start`` tokens of an earlier text from token ``at`` on, as runs from
    ``start``."""
    found = []
    index = bisect_right(text.runs, at, key=lambda run: run.start) - 1
    end = at + stop - start
    for run in text.runs[index:]:
        if run.start >= end:
            break
        first, last = max(run.start, at), min(run.stop, end)
        found.append(Run(first - at + start, last - at + start, run.piece, run.at + first - run.start))
    return found


def _filled(runs: Sequence[Run], piece: Piece, tokens: int) -> tuple[Run, ...]:
    """Return the runs, and between them those of the new piece."""
    filled: list[Run] = []
    position = 0
    for run in runs:
        if run.start > position:
            filled.append(Run(position, run.start, piece, position))
        filled.append(run)
        position = run.stop
    if position < tokens:
        filled.append(Run(position, tokens, piece, position))
    return tuple(filled)


def _common(a: Tokens, b: Tokens) -> int:
    """Return how many tokens the two begin with in common."""
    shorter, step, start = min(len(a), len(b)), 64, 0
    while start < shorter:
        stop = min(start + step, shorter)
        differ = a[start:stop] != b[start:stop]
        if differ.any():
            return start + int(np.argmax(differ))
        start, step = stop, 4 * step
    return shorter
