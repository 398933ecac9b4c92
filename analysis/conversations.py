"""Whole conversations of an arm: the measures of ``harness.results.conversations``, with the items behind them.

A gain over dense or ``prefix`` is a ratio of sums, too: their seconds over the arm's, over the conversations that both
took in full. So it is the quotient of the mean times, and says what the whole workload gains. (The speedup of single
turns is the median of paired ratios instead, as ``analysis.stats`` explains.) Arms may give answers of other lengths,
so a gain in latency also holds the difference in what was decoded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import stats
from analysis.arms import Arm, Baseline
from analysis.results import plain_values
from analysis.stats import Estimate
from analysis.turn_columns import TIMES
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
        energy_j: dict[Key, float] = {}
        if known is not None:
            of_sample = zip(plain_values(known["trial_id"]), plain_values(known["sample_index"]), strict=True)
            energy_j = dict(zip(of_sample, plain_values(known["energy_j"]), strict=True))
        grouped = _Grouped.of(turns)
        found = _conversations(turns, grouped, energy_j=energy_j)
        return cls(dict(zip(grouped.keys, found, strict=True)), dict(zip(grouped.keys, grouped.items, strict=True)))

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
    pairs, own = arm.beside(baseline), _Grouped.of(arm.turns)
    grouped, taken = _Grouped.of(pairs), dict(zip(own.keys, own.turns_K, strict=True))
    ours, theirs = _conversations(pairs, grouped), _conversations(pairs, grouped, f"_{baseline}")
    rows = zip(grouped.keys, grouped.turns_K, theirs, ours, grouped.items, strict=True)
    return [(their, our, item) for key, n_turns, their, our, item in rows if n_turns == taken[key]]


def beyond_prefix(arm: Arm) -> Ratio | None:
    """Return the prompt tokens reused beyond those that an exact prefix cache would have reused, over prompt tokens.

    It covers the turns that know the latter, and may be below 0. None if no turn does, and for dense.
    """
    known = arm.turns["exact_prefix_tokens"].notna() & (arm.turns["arm"] != "dense")
    turns = arm.turns.loc[known, ["reused_tokens", "exact_prefix_tokens", "prompt_tokens", "item"]]
    more = turns["reused_tokens"] - turns["exact_prefix_tokens"]
    wholes = turns["prompt_tokens"].astype(float)
    return Ratio.of(
        zip(plain_values(more.astype(float)), plain_values(wholes), plain_values(turns["item"]), strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Which turns are of one conversation. A sweep may have a million turns, so no loop looks at each."""

    keys: list[Key]
    """The conversations, in the order of their first turns."""
    items: list[str]
    turns_K: list[int]
    """Number of turns of each conversation."""
    place_N: NDArray[np.int64]
    """The conversation of each turn."""

    @classmethod
    def of(cls, turns: pd.DataFrame) -> "_Grouped":
        """Group turns by trial and sample."""
        trial_N, trial_ids = pd.factorize(turns["trial_id"])
        sample_N = turns["sample_index"].to_numpy(dtype=np.int64)
        n_samples = int(sample_N.max(initial=0)) + 1
        place_N, codes_K = pd.factorize(trial_N.astype(np.int64) * n_samples + sample_N)
        _, first_K = np.unique(place_N, return_index=True)
        names = [str(one) for one in trial_ids]
        keys = [(names[code // n_samples], code % n_samples) for code in codes_K.tolist()]
        items = plain_values(turns["item"].iloc[first_K])
        return cls(keys, items, np.bincount(place_N, minlength=len(keys)).tolist(), place_N)


def _conversations(
    turns: pd.DataFrame, grouped: _Grouped, suffix: str = "", energy_j: Mapping[Key, float] = MappingProxyType({})
) -> list[Conversation]:
    """Sum the turns of each conversation, as ``conversation_of`` does for one; those in the columns that end in
    ``suffix``.

    ``bincount`` adds the terms of a sum in the order of the rows.
    """
    if turns.empty:
        return []
    place_N = grouped.place_N
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
    found = []
    for key, given, ttft_s, decode_s, latency_s, busy_s in zip(grouped.keys, given_K, *sums, strict=True):
        if given:
            found.append(Conversation(ttft_s, None, None, None, energy_j.get(key)))
        else:
            found.append(Conversation(ttft_s, decode_s, latency_s, busy_s, energy_j.get(key)))
    return found
