"""Whole conversations of an arm: the measures of ``harness.results.conversations``, with the items behind them.

A gain over dense or ``prefix`` is a ratio of sums, too: their seconds over the arm's, over the conversations that both
took in full. So it is the quotient of the mean times, and says what the whole workload gains. (The speedup of single
turns is the median of paired ratios instead, as ``analysis.stats`` explains.) Arms may give answers of other lengths,
so a gain in latency also holds the difference in what was decoded.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from analysis import stats
from analysis.arms import TIMES, Arm, Baseline
from analysis.results import plain_values
from analysis.stats import Estimate
from harness.results.conversations import MEASURES, Conversation

Key = tuple[str, int]
"""Trial and sample index: they identify a conversation of an arm."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of sums over conversations or turns, before it is computed."""

    parts: tuple[float, ...]
    wholes: tuple[float, ...]
    items: tuple[str, ...]
    """The item of each term: a resample keeps the terms of an item together."""

    @classmethod
    def of(cls, terms: Iterable[tuple[float, float, str]]) -> "Ratio | None":
        """Build the ratio from terms of part, whole and item; None if there are none."""
        columns = tuple(zip(*terms, strict=True))
        return cls(*columns) if columns else None

    @property
    def value(self) -> float:
        """The ratio."""
        return sum(self.parts) / sum(self.wholes)

    def estimate(self) -> Estimate:
        """Return the ratio with its interval."""
        return stats.ratio_of_sums(self.parts, self.wholes, self.items)


@dataclass(frozen=True, slots=True)
class Conversations:
    """The conversations of some turns of one arm."""

    by_key: dict[Key, Conversation]
    items: dict[Key, str]

    @classmethod
    def of(cls, turns: pd.DataFrame, samples: pd.DataFrame | None = None) -> "Conversations":
        """Sum the turns by trial and sample. ``samples`` of the same trials add the energy that items took."""
        known = None if samples is None else samples.dropna(subset="energy_j")
        energy_j = {} if known is None else dict(zip(_keys(known), plain_values(known["energy_j"]), strict=True))
        keys, items = _keys(turns), plain_values(turns["item"])
        return cls(_conversations(turns, keys, energy_j=energy_j), dict(zip(keys, items, strict=True)))

    @classmethod
    def of_arm(cls, arm: Arm) -> "Conversations":
        """Sum the turns of an arm, with the energy of its items."""
        return arm.once("conversations", lambda: cls.of(arm.turns, arm.samples))

    def ratio(self, name: str) -> Ratio | None:
        """Return one of ``MEASURES``; None if no conversation has it."""
        measure = MEASURES[name]
        known = ((key, measure.terms(one)) for key, one in self.by_key.items())
        return Ratio.of((*terms, self.items[key]) for key, terms in known if terms is not None)


def value_if_known(number: Ratio | Estimate | None) -> float | None:
    """Return the number without its interval; None if there is none."""
    return None if number is None else number.value


def gain(arm: Arm, baseline: Baseline, name: str) -> Ratio | None:
    """Return the baseline's ``ttft_sum_s`` or ``latency_s`` over the arm's.

    None if no conversation was taken in full by both or, for ``latency_s``, if its answers were given.
    """
    part = MEASURES[name].part
    both = arm.once(f"beside {baseline}", lambda: _beside(arm, baseline))
    found = ((part(theirs), part(ours), item) for theirs, ours, item in both)
    return Ratio.of((their, our, item) for their, our, item in found if their is not None and our is not None)


def _beside(arm: Arm, baseline: Baseline) -> list[tuple[Conversation, Conversation, str]]:
    """Return the conversations that the baseline and the arm took in full, the baseline's first, with their items."""
    pairs = arm.beside(baseline)
    keys = _keys(pairs)
    taken, both = Counter(_keys(arm.turns)), Counter(keys)
    items = dict(zip(keys, plain_values(pairs["item"]), strict=True))
    ours, theirs = _conversations(pairs, keys), _conversations(pairs, keys, f"_{baseline}")
    return [(theirs[key], own, items[key]) for key, own in ours.items() if both[key] == taken[key]]


def beyond_prefix(arm: Arm) -> Ratio | None:
    """Return the prompt tokens reused beyond those that an exact prefix cache would have reused, over prompt tokens.

    It covers the turns that know the latter, and may be below 0. None if no turn does, and for dense.
    """
    turns = arm.turns[arm.turns["exact_prefix_tokens"].notna() & (arm.turns["arm"] != "dense")]
    more = turns["reused_tokens"] - turns["exact_prefix_tokens"]
    wholes = turns["prompt_tokens"].astype(float)
    return Ratio.of(
        zip(plain_values(more.astype(float)), plain_values(wholes), plain_values(turns["item"]), strict=True)
    )


def _conversations(
    turns: pd.DataFrame, keys: Sequence[Key], suffix: str = "", energy_j: Mapping[Key, float] = MappingProxyType({})
) -> dict[Key, Conversation]:
    """Sum turns by their keys, as ``conversation_of`` does for one; those in the columns that end in ``suffix``.

    ``bincount`` adds the terms of a sum in the order of the rows.
    """
    if turns.empty:
        return {}
    places: dict[Key, int] = {}
    place_N = np.array([places.setdefault(key, len(places)) for key in keys])
    times = {name: turns[f"{name}{suffix}"] for name in TIMES}
    ttft_N, decode_N, store_N, publish_N = (times[name].fillna(0).to_numpy(dtype=np.float64) for name in TIMES[:4])
    shared_N, decoded_N, batch_N = (
        times[name].to_numpy(dtype=np.float64, na_value=np.nan)
        for name in ("ttft_share_s", "decode_share_s", "batch_size")
    )
    latency_N = ttft_N + decode_N + store_N + publish_N
    own_N = shared_N + decoded_N + store_N + publish_N
    busy_N = np.where(np.isnan(own_N), (latency_N - publish_N) / batch_N + publish_N, own_N)
    given_K = np.bincount(place_N, (times["stop_reason"] == "given").to_numpy(dtype=np.float64)) > 0
    sums = (np.bincount(place_N, column).tolist() for column in (ttft_N, decode_N, latency_N, busy_N))
    found = {}
    for key, given, ttft_s, decode_s, latency_s, busy_s in zip(places, given_K, *sums, strict=True):
        if given:
            found[key] = Conversation(ttft_s, None, None, None, energy_j.get(key))
        else:
            found[key] = Conversation(ttft_s, decode_s, latency_s, busy_s, energy_j.get(key))
    return found


def _keys(rows: pd.DataFrame) -> list[Key]:
    return list(zip(plain_values(rows["trial_id"]), plain_values(rows["sample_index"]), strict=True))
