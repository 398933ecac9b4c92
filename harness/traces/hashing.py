"""Hashes of all prefixes and all windows of a text at once.

The prefix of n tokens has the hash ``sum over i < n of token[i] * BASE^i``, and a window the same sum over its tokens,
counted from its start; all modulo 2^64.
"""

import numpy as np

from harness.traces.tokens import Tokens

_BASE = 0x9E3779B97F4A7C15 | 1
_INVERSE = pow(_BASE, -1, 1 << 64)


class _Powers:
    """Powers of a number modulo 2^64, as many as were asked for so far."""

    def __init__(self, base: int) -> None:
        self._base = np.uint64(base)
        self._powers = np.ones(1, np.uint64)

    def first(self, count: int) -> Tokens:
        if len(self._powers) < count:
            factors = np.full(max(count, 2 * len(self._powers)), self._base)
            factors[0] = 1
            self._powers = np.cumprod(factors, dtype=np.uint64)
        return self._powers[:count]


_POWERS, _INVERSES = _Powers(_BASE), _Powers(_INVERSE)


def prefix_hashes(tokens: Tokens) -> Tokens:
    """Return the hashes of the prefixes of 0 to T tokens, ``[T + 1]``."""
    hashes = np.zeros(len(tokens) + 1, np.uint64)
    np.cumsum(tokens * _POWERS.first(len(tokens)), out=hashes[1:])
    return hashes


def window_hashes(prefixes: Tokens, length: int, first: int = 0, count: int | None = None) -> Tokens:
    """Return the hashes of the windows of ``length`` tokens of a text by its prefix hashes, ``[T - length + 1]``; or of
    ``count`` of them at most, from the one at token ``first`` on."""
    stop = len(prefixes) - length if count is None else min(len(prefixes) - length, first + count)
    if stop <= first:
        return np.zeros(0, np.uint64)
    sums = prefixes[first + length : stop + length] - prefixes[first:stop]
    return sums * _INVERSES.first(stop)[first:]
