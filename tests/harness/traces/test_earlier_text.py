"""Stretches of earlier texts are found, all of them, and go back to the piece in which they stood first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.traces.earlier_text import EarlierText, Found, Piece
from harness.traces.hashing import prefix_hashes
from harness.traces.tokens import Tokens

SHORTEST = 8


def of(*ranges: tuple[int, int]) -> Tokens:
    """Tokens that are made of ranges of numbers, each with its own meaning."""
    return np.array([number for start, stop in ranges for number in range(start, stop)], np.uint64)


class Log:
    """Texts that were added, each with its piece, and what was found of the last one."""

    def __init__(self) -> None:
        self.earlier = EarlierText(SHORTEST)
        self.tokens: dict[Piece, Tokens] = {}

    def add(self, tokens: Tokens, producer: str = "", *, is_answer: bool = False) -> Found:
        found = self.earlier.find(tokens)
        piece = Piece(len(tokens), producer, is_answer)
        self.tokens[piece] = tokens
        self.earlier.add(Found(tokens, prefix_hashes(tokens), ()) if is_answer else found, piece)
        return found


def shown(found: Found) -> list[tuple[int, int, str, int, bool]]:
    return [(run.start, run.stop, run.piece.producer, run.at, run.is_whole) for run in found.runs]


def test_stretches_go_back_to_their_first_piece() -> None:
    """Catches a quotation that counts for the text that quoted, and pieces that are whole although they are cut."""
    log = Log()
    assert shown(log.add(of((0, 20)), "question")) == []
    assert shown(log.add(of((100, 120)), "answer", is_answer=True)) == []
    quoting = log.add(of((200, 210), (0, 20), (210, 220), (100, 120), (220, 230)), "quoting")
    assert shown(quoting) == [(10, 30, "question", 0, True), (40, 60, "answer", 0, True)]
    later = log.add(of((300, 305), (205, 210), (0, 20), (210, 220), (100, 112)), "later")
    assert shown(later) == [
        (5, 10, "quoting", 5, False),
        (10, 30, "question", 0, True),
        (30, 40, "quoting", 30, False),
        (40, 52, "answer", 0, False),
    ]


def test_a_piece_may_miss_two_tokens_at_either_end() -> None:
    """Catches an answer that is no longer whole because a tokenizer merges its first letters with a line feed."""
    log = Log()
    log.add(of((0, 20)), "a")
    assert [run.is_whole for run in log.add(of((50, 60), (2, 18), (60, 70))).runs] == [True]
    assert [run.is_whole for run in log.add(of((70, 80), (3, 18), (80, 90))).runs] == [False]


def test_the_longest_place_counts_then_the_earliest() -> None:
    log = Log()
    log.add(of((0, 10)), "short")
    log.add(of((90, 91), (0, 20)), "long")
    log.add(of((91, 92), (0, 20)), "again")
    assert shown(log.add(of((95, 99), (0, 20)))) == [
        (4, 14, "short", 0, True),
        (14, 24, "long", 11, False),
    ]


def test_what_is_short_does_not_count() -> None:
    log = Log()
    log.add(of((0, 7)), "short")
    log.add(of((10, 40)), "long")
    assert shown(log.add(of((0, 7)))) == []
    assert shown(log.add(of((50, 53), (20, 27), (53, 60)))) == []
    assert shown(log.add(of((60, 63), (20, 28), (63, 70)))) == [(3, 11, "long", 10, False)]
    with pytest.raises(ValueError, match="shortest is 1; allowed: 2 or more"):
        EarlierText(1)


def test_forgetting() -> None:
    """Catches memory that grows, and text that is forgotten although it was added since."""
    log = Log()
    log.add(of((0, 20)), "old")
    log.earlier.forget()
    log.add(of((30, 50)), "new")
    assert shown(log.earlier.find(of((0, 20)))) == [(0, 20, "old", 0, True)]
    log.earlier.forget()
    assert shown(log.earlier.find(of((0, 20)))) == []
    assert shown(log.earlier.find(of((30, 50)))) == [(0, 20, "new", 0, True)]
    assert log.earlier.tokens == 20
    log.earlier.forget()
    assert log.earlier.tokens == 0


CHUNKS = [range(100 * index, 100 * index + 30) for index in range(6)]
TEXTS = st.lists(
    st.lists(
        st.tuples(st.integers(0, len(CHUNKS) - 1), st.integers(0, 15), st.integers(16, 30)),
        min_size=1,
        max_size=5,
        unique_by=lambda chunk: chunk[0],
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_against_a_search_by_hand(texts: list[list[tuple[int, int, int]]]) -> None:
    """Catches a stretch that is missed for where it lies, one that is none, and tokens that count twice."""
    log = Log()
    earlier: list[list[int]] = []
    for chosen in texts:
        tokens = of(*((CHUNKS[chunk][0] + start, CHUNKS[chunk][0] + stop) for chunk, start, stop in chosen))
        found = log.add(tokens)
        values, end = tokens.tolist(), 0
        for run in found.runs:
            assert run.start >= end
            end = run.stop
            piece = log.tokens[run.piece].tolist()
            assert values[run.start : run.stop] == piece[run.at : run.at + len(run)]
        known = {tuple(text[at : at + SHORTEST]) for text in earlier for at in range(len(text) - SHORTEST + 1)}
        covered = {token for run in found.runs for token in range(run.start, run.stop)}
        for at in range(len(values) - SHORTEST + 1):
            if tuple(values[at : at + SHORTEST]) in known:
                assert covered & set(range(at, at + SHORTEST)), "a stretch was missed"
        earlier.append(values)
