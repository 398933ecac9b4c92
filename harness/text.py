r"""Text that somebody else wrote, above all a model: rules for storing it and for displaying it.

*Stored*: records, items, grades and tool results are ``Storable``, so that whatever enters one can be stored, sent and
tokenised. That holds for every string except one with a lone surrogate, which UTF-8 cannot represent. Each lone
surrogate becomes its escape, ``\ud800``, as Python's ``backslashreplace`` writes it. Nothing else changes: NULs, escape
sequences and markup stay as the model wrote them.

*Displayed*: terminals, HTML pages and MLflow's tags get ``displayed`` text, in which an escape replaces every character
that acts instead of showing.
"""

import re

_ACTS = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed: escape sequences, NUL, carriage return
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, line ends, bidi
    "\ud800-\udfff"  # lone surrogates
    "\U000e0000-\U000e007f"  # tags: invisible ASCII
    "]"
)


def storable(text: str) -> str:
    """Return ``text`` with each lone surrogate as its escape; every other text is returned unchanged."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def displayed(text: str) -> str:
    r"""Return ``text`` with an escape such as ``\x1b`` or ``\u202e`` for each character that acts instead of showing.

    Tabs, line feeds, and the joiners that emoji and many scripts need stay.
    """
    return _ACTS.sub(lambda found: _escaped(ord(found[0])), text)


class Storable:
    """Base of frozen dataclasses whose strings may come from anybody; they become storable on creation."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Replace the strings that cannot be stored."""
        for name in self.__dataclass_fields__:  # type: ignore[attr-defined] # a dataclass
            value = getattr(self, name)
            if isinstance(value, str) and not value.isascii():
                object.__setattr__(self, name, storable(value))


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
