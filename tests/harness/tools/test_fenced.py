"""Fenced blocks of an answer."""

import pytest

from harness.tools.fenced import Block, blocks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no code", []),
        ("```python\na = 1\n```", [Block("python", "a = 1")]),
        ("``` Python title\na\n\nb\n```\nrest", [Block("python", "a\n\nb")]),
        ("```\r\na\r\n```\r\n", [Block("", "a")]),
        ("~~~\n```\na\n```\n~~~", [Block("", "```\na\n```")]),
        ("````\n```\na\n````", [Block("", "```\na")]),
        ("```\na\n``` more", [Block("", "a\n``` more")]),
        ("```python\na\nb", [Block("python", "a\nb")]),
        ("```python", [Block("python", "")]),
        ("  ```\n  if a:\n      b\n ```", [Block("", "if a:\n    b")]),
        ("    ```\n    a\n    ```", []),
        ("a ```b``` c\n```x``` y", []),
        ("```a\n1\n```\n```b\n2\n```", [Block("a", "1"), Block("b", "2")]),
    ],
)
def test_blocks(text: str, expected: list[Block]) -> None:
    """Catches fences that end too early or too late, a lost block and code that is indented otherwise than written."""
    assert blocks(text) == expected


@pytest.mark.parametrize(("language", "may_be"), [("", True), ("py", True), ("python", True), ("bash", False)])
def test_may_be_python(language: str, may_be: bool) -> None:
    """Catches a shell session that is run as Python."""
    assert Block(language, "").may_be_python is may_be
