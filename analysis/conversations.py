"""Whole conversations of an arm: the measures of ``harness.results.conversations``, with the items behind them.

A gain over dense or ``prefix`` is a ratio of sums, too: their seconds over the arm's, over the conversations that both
took in full. So it is the quotient of the mean times, and says what the whole workload gains. (The speedup of single
turns is the median of paired ratios instead, as ``analysis.stats`` explains.) Arms may give answers of other lengths,
so a gain in latency also holds the difference in what was decoded.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from analysis import stats
from analysis.arms import Arm, Baseline
from analysis.results import plain_values
from analysis.stats import Estimate
from harness.results.conversations import MEASURES, Conversation, conversation_of

Key = tuple[str, int]
"""Trial and sample index: they identify a conversation of an arm."""


class _Times(NamedTuple):
    """The times of one row of ``turns``, with None for null."""

    ttft_s: float
    decode_s: float
    phase_store_s: float
    phase_publish_s: float | None
    batch_size: int
    stop_reason: str


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
        energy_j = {} if known is None else dict(zip(_keys(known), known["energy_j"], strict=True))
        by_key = {key: conversation_of(taken, energy_j.get(key)) for key, taken in _by_conversation(turns).items()}
        return cls(by_key, dict(zip(_keys(turns), turns["item"], strict=True)))

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
    pairs, n_turns = arm.beside(baseline), Counter(_keys(arm.turns))
    items = dict(zip(_keys(pairs), pairs["item"], strict=True))
    ours, theirs = _by_conversation(pairs), _by_conversation(pairs, f"_{baseline}")
    return [
        (conversation_of(theirs[key]), conversation_of(own), items[key])
        for key, own in ours.items()
        if len(own) == n_turns[key]
    ]


def beyond_prefix(arm: Arm) -> Ratio | None:
    """Return the prompt tokens reused beyond those that an exact prefix cache would have reused, over prompt tokens.

    It covers the turns that know the latter, and may be below 0. None if no turn does, and for dense.
    """
    turns = arm.turns[arm.turns["exact_prefix_tokens"].notna() & (arm.turns["arm"] != "dense")]
    more = turns["reused_tokens"] - turns["exact_prefix_tokens"]
    return Ratio.of(zip(more.astype(float), turns["prompt_tokens"].astype(float), turns["item"], strict=True))


def _by_conversation(turns: pd.DataFrame, suffix: str = "") -> dict[Key, list[_Times]]:
    """Group the times of turns by trial and sample; those in the columns that end in ``suffix``."""
    columns = [plain_values(turns[f"{name}{suffix}"]) for name in _Times._fields]
    found: defaultdict[Key, list[_Times]] = defaultdict(list)
    for key, *times in zip(_keys(turns), *columns, strict=True):
        found[key].append(_Times(*times))
    return found


def _keys(rows: pd.DataFrame) -> Iterable[Key]:
    return zip(rows["trial_id"], rows["sample_index"], strict=True)
