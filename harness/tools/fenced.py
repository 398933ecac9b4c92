"""Search for the fenced code blocks of an answer, by the rules of CommonMark 0.31 (section 4.5)."""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})(.*)")
_PYTHON = ("", "py", "python", "python3")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    """The first word after the opening fence, in lower case; empty if there is none."""

    code: str
    """The lines between the fences. A block without a closing fence lasts to the end of the text."""

    @property
    def may_be_python(self) -> bool:
        """Whether the block is labelled as Python or not labelled."""
        return self.language in _PYTHON


def blocks(text: str) -> list[Block]:
    """Return the blocks of ``text`` in order, not nested."""
    found: list[Block] = []
    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for line in lines:
        opening = _FENCE.fullmatch(line)
        if opening is None or (opening[2][0] == "`" and "`" in opening[3]):
            continue
        words = opening[3].split()
        code = []
        for inner in lines:
            closing = _FENCE.fullmatch(inner)
            if closing and closing[2].startswith(opening[2]) and not closing[3].strip():
                break
            code.append(_without_indent(inner, len(opening[1])))
        found.append(Block(words[0].lower() if words else "", "\n".join(code)))
    return found


def _without_indent(line: str, most: int) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return line[min(indent, most) :]
