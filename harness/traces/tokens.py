"""Texts as tokens, each a 64-bit number that stands for its text.

Without a tokenizer, tokens are estimated: a token is a run of up to eight letters of one word, a single digit or mark,
a letter of Chinese, Japanese or Korean, or a run of line feeds; other white space is none. On English prose, code and
agents' logs that is 0.89 to 1.08 times the tokens of SmolLM2's tokenizer.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kvcomm_core.config import one_line, shown
from kvcomm_core.models.named_models import NAMED_MODELS

Tokens = npt.NDArray[np.uint64]
"""``[T]``: a number per token."""

Tokenize = Callable[[str], Tokens]

_EASTERN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[^\W\d_{_EASTERN}]{{1,8}}|[{_EASTERN}]|\d|[^\w\s]|_|\n+")

ESTIMATE = "estimated from words and marks"

_MOST_KEPT = 2_000_000
"""Tokens of recent texts that are kept, since prompts repeat earlier messages; twice as many at most."""


class TokenizerError(ValueError):
    """A tokenizer cannot be had; the message is one line."""


def estimated(text: str) -> Tokens:
    """Return the estimated tokens of a text."""
    words = _WORD.findall(text)
    return np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)


def estimated_spans(text: str) -> tuple[Tokens, list[tuple[int, int]]]:
    """Return the estimated tokens of a text, and the characters from which to which each goes."""
    found = list(_WORD.finditer(text))
    tokens = np.fromiter((hash(one[0]) for one in found), np.int64, len(found)).view(np.uint64)
    return tokens, [one.span() for one in found]


def read_tokenizer(name: str) -> Tokenize:
    """Return a function that tokenises with a ``tokenizer.json``, the one in a folder, or that of a model with a name
    (``embedded``, ``coder``). Special tokens in a text count as its characters. Raise ``TokenizerError``."""
    named = NAMED_MODELS.get(name)
    path = Path(name) if named is None else named.converted
    file = path / "tokenizer.json" if path.is_dir() or named is not None else path
    if named is not None and not file.is_file():
        how = f"the first use of the model makes it: python -m kvcomm_core.models.loading {name}"
        raise TokenizerError(f"tokenizer is '{name}', which is not there yet; {how}")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise TokenizerError(f"tokenizer is {shown(name)}, which needs: pip install tokenizers") from None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises Exception itself
        reason = one_line(error)[:200]
        allowed = f"a tokenizer.json, a folder with one, {', '.join(NAMED_MODELS)}"
        raise TokenizerError(
            f"tokenizer is {shown(name)}, which cannot be read ({reason}); allowed: {allowed}"
        ) from None
    tokenizer.encode_special_tokens = True
    return lambda text: numbered(tokenizer.encode(text, add_special_tokens=False).ids)


def numbered(token_ids: list[int]) -> Tokens:
    """Return a tokenizer's ids as numbers that are spread over all 64 bits."""
    mixed = np.asarray(token_ids, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed


def remembering(tokenize: Tokenize) -> Tokenize:
    """Return ``tokenize`` with a memory of recent texts."""
    recent: dict[tuple[int, int], Tokens] = {}
    before: dict[tuple[int, int], Tokens] = {}
    kept = 0

    def remembered(text: str) -> Tokens:
        nonlocal recent, before, kept
        key = hash(text), len(text)
        tokens = recent.get(key)
        if tokens is None:
            tokens = before[key] if key in before else tokenize(text)
            recent[key] = tokens
            kept += len(tokens)
            if kept > _MOST_KEPT:
                recent, before, kept = {}, recent, 0
        return tokens

    return remembered
