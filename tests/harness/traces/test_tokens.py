"""Texts become tokens, and their prefixes and windows hashes."""

from pathlib import Path

import numpy as np
import pytest
from chat_tokenizers import chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from harness.traces.hashing import prefix_hashes, window_hashes
from harness.traces.tokens import TokenizerError, Tokens, estimated, estimated_spans, read_tokenizer, remembering


def numbers(*values: int) -> Tokens:
    return np.array(values, np.uint64)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Find a train.", 4),
        ("internationalisation", 3),
        ("1984", 4),
        ("a\n\n\nb", 3),
        ("snake_case", 3),
        ("日本語 テキスト", 7),
        ("", 0),
    ],
)
def test_the_estimate(text: str, tokens: int) -> None:
    """Catches a word of any length for one token, and text without spaces for one word."""
    assert len(estimated(text)) == tokens


@given(st.text(max_size=60))
def test_spans_are_those_of_the_estimate(text: str) -> None:
    """Catches the two forms of the estimate drifting apart."""
    tokens, spans = estimated_spans(text)
    assert tokens.tolist() == estimated(text).tolist()
    assert [estimated(text[start:stop]).tolist() for start, stop in spans] == [[token] for token in tokens.tolist()]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(1, 8), st.integers(0, 8), st.integers(0, 8))
def test_hashes_against_their_formula(values: list[int], length: int, first: int, count: int) -> None:
    """Catches a window whose hash depends on where it stands."""
    base = 0x9E3779B97F4A7C15

    def slow(tokens: list[int]) -> int:
        return sum(token * pow(base, index, 2**64) for index, token in enumerate(tokens)) % 2**64

    prefixes = prefix_hashes(numbers(*values))
    assert prefixes.tolist() == [slow(values[:stop]) for stop in range(len(values) + 1)]
    windows = [slow(values[start : start + length]) for start in range(len(values) - length + 1)]
    assert window_hashes(prefixes, length).tolist() == windows
    assert window_hashes(prefixes, length, first, count).tolist() == windows[first : first + count]


def test_a_tokenizer_file(tmp_path: Path) -> None:
    """Catches markup in a text that counts as one token, and tokens told apart by less than their ids."""
    chat_tokenizer("smollm2").save_pretrained(tmp_path)
    for name in (tmp_path, tmp_path / "tokenizer.json"):
        tokenize = read_tokenizer(str(name))
        assert len(tokenize("abc")) == 3
        assert len(tokenize("<|im_end|>")) == 10
        assert len(set(tokenize("abcab").tolist())) == 3


def test_a_tokenizer_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "damaged.json").write_text("{")
    for name, message in (
        ("embedded", "tokenizer is 'embedded', which is not there yet; the first use of the model makes it"),
        (str(tmp_path / "damaged.json"), "which cannot be read (EOF while parsing"),
        (str(tmp_path / "missing.json"), "; allowed: a tokenizer.json, a folder with one, embedded, coder"),
    ):
        with pytest.raises(TokenizerError) as caught:
            read_tokenizer(name)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a memory without bound, and one that forgets at once."""
    monkeypatch.setattr("harness.traces.tokens._MOST_KEPT", 4)
    asked = []

    def tokenize(text: str) -> Tokens:
        asked.append(text)
        return estimated(text)

    tokens = remembering(tokenize)
    for text in ("a b", "a b", "c d", "e f", "a b", "g h", "i j", "k l", "c d"):
        assert tokens(text).tolist() == estimated(text).tolist()
    assert asked == ["a b", "c d", "e f", "g h", "i j", "k l", "c d"]
