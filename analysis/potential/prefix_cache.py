"""An exact prefix cache, as servers have it: blocks of tokens, each known by the hash of all tokens up to its end."""

from collections import deque
from collections.abc import Iterable

from harness.traces.hashing import prefix_hashes, window_hashes
from harness.traces.tokens import Tokens

MOST_BLOCKS = 4_000_000
"""Maximum number of blocks that are kept; of 16 tokens each, that is a cache of 64 million tokens. It is meant to be
infinite, but each block takes 60 bytes here."""


class RecentNumbers:
    """A set of numbers that drops those used longest ago, when they are too many."""

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self.dropped = False
        """Whether it ever dropped any."""
        self._half = most // 2
        self._recent: set[int] = set()
        self._before: set[int] = set()

    def __contains__(self, number: int) -> bool:
        if number in self._recent:
            return True
        if number in self._before:
            self._recent.add(number)
            return True
        return False

    def update(self, numbers: Iterable[int]) -> None:
        """Add numbers."""
        self._recent.update(numbers)
        if len(self._recent) > self._half:
            self.dropped = self.dropped or bool(self._before)
            self._recent, self._before = set(), self._recent


class PrefixCache:
    """The prefixes of all earlier sequences."""

    def __init__(self, block: int) -> None:
        """``block`` is the number of tokens of a block."""
        self.block = block
        self._blocks = RecentNumbers()

    @property
    def was_full(self) -> bool:
        """Whether it had to drop blocks, so that it was not infinite."""
        return self._blocks.dropped

    def longest(self, prefixes: Tokens) -> int:
        """Return how many of a prompt's tokens the cache holds, by the hashes of the prompt's prefixes: whole blocks,
        and never the last token, which every server computes for its logits."""
        length = 0
        last = (len(prefixes) - 2) // self.block * self.block
        for hashed in prefixes[self.block : last + 1 : self.block].tolist():
            if hashed not in self._blocks:
                break
            length += self.block
        return length

    def add(self, prefixes: Tokens) -> None:
        """Add all whole blocks of a prompt with its answer."""
        self._blocks.update(prefixes[self.block :: self.block].tolist())


class Continuations:
    """Answers to prompts that were logged as one text.

    Such a log does not say how an answer stands in the next prompt. A prompt that goes on with the answer to an earlier
    one, behind a few tokens of markup, has that answer in its prefix, as a server would.
    """

    _MARKUP = 8
    """Maximum tokens between an earlier prompt and its answer."""

    def __init__(self) -> None:
        self._latest: deque[tuple[int, int, int, int]] = deque(maxlen=256)
        """Length and hash of prompts, length and hash of their answers; the latest first."""

    def longest(self, prefixes: Tokens) -> int:
        """Return the tokens of the longest earlier prompt with its answer that a prompt begins with, but the prompt's
        last; 0 if there is none."""
        longest = 0
        for length, hashed, answer_length, answer_hash in self._latest:
            if length < len(prefixes) and prefixes[length] == hashed:
                windows = window_hashes(prefixes, answer_length, length, self._MARKUP + 1).tolist()
                if answer_hash in windows:
                    longest = max(longest, length + windows.index(answer_hash) + answer_length)
        return min(longest, len(prefixes) - 2)

    def add(self, prefixes: Tokens, answer: Tokens) -> None:
        """Add the answer to a prompt, whose last token, the markup of the answer, is not part of its text."""
        if len(answer):
            text = len(prefixes) - 2
            self._latest.appendleft((text, int(prefixes[text]), len(answer), int(prefix_hashes(answer)[-1])))
