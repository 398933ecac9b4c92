"""What is kept of anybody's text, and what is shown of it."""

import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.text import Storable, displayed, storable

ANY = st.text(st.characters(codec=None, exclude_categories=())) | st.text(
    "ab\ud800\udfff\x1b\x9b\0\u202e\n\té", max_size=20
)


@dataclass(frozen=True, slots=True)
class Made(Storable):
    """A record with a text that may be missing."""

    text: str | None
    number: int = 0


@given(ANY)
def test_what_is_kept_can_be_stored_and_is_what_was_written(text):
    """Catches a text that UTF-8 cannot hold, and one that is changed without need."""
    kept = storable(text)
    assert kept.encode().decode() == kept
    assert storable(kept) == kept
    if not re.search("[\ud800-\udfff]", text):
        assert kept == text
    assert Made(text).text == replace(Made(""), text=text).text == kept


def test_lone_surrogates_are_escapes():
    """Catches a surrogate that is dropped, or replaced by a mark that does not say which it was."""
    assert storable("a\ud800b\udfff") == r"a\ud800b\udfff"
    assert Made(None) == Made(None)
    assert Made("é", 3).number == 3


@given(ANY)
def test_what_is_shown_does_nothing(text):
    """Catches an escape sequence, a mark that turns text around and a surrogate on a terminal or a page."""
    shown = displayed(text)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown
    )
    assert displayed(shown) == shown
    assert shown.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb\tc", "a\\x0d\nb\tc"),
        ("\u202e42", r"\u202e42"),
        ("\U000e0041", r"\U000e0041"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("naïve [/red] <b>", "naïve [/red] <b>"),
    ],
)
def test_escapes(text, shown):
    """Catches an escape that cannot be read, and ordinary text that is escaped."""
    assert displayed(text) == shown
