r"""Text that somebody else wrote, a model above all: what is kept of it, and what is shown of it.

*Kept*: records, items, grades and tool results are ``Storable``, so that whatever enters one can be stored, sent and
tokenised. That is every string but one with a lone surrogate, which no UTF-8 can hold: each of these becomes its
escape, ``\ud800``, as Python's ``backslashreplace`` writes it. Nothing else is changed: NULs, escape sequences and
markup stay as the model wrote them.

*Shown*: terminals, HTML pages and MLflow's tags get ``displayed`` text, in which every character that acts rather than
shows is its escape.
"""

import re

_ACTS = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed: escape sequences, NUL, carriage return
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, line ends, bidi
    "\ud800-\udfff"  # lone surrogates
    "\U000e0000-\U000e007f"  # tags: ASCII that nobody sees
    "]"
)


def storable(text: str) -> str:
    """``text`` with each lone surrogate as its escape; every other text is returned as it is."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def displayed(text: str) -> str:
    r"""``text`` with an escape such as ``\x1b`` or ``\u202e`` for each character that acts rather than shows.

    Tabs, line feeds, and the joiners that emoji and many scripts are written with stay.
    """
    return _ACTS.sub(lambda found: _escaped(ord(found[0])), text)


class Storable:
    """Base of frozen dataclasses whose strings may be anybody's: made storable as they enter."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Replace the strings that cannot be stored."""
        for name in self.__dataclass_fields__:  # type: ignore[attr-defined] # a dataclass
            value = getattr(self, name)
            if isinstance(value, str) and not value.isascii():
                object.__setattr__(self, name, storable(value))


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
