"""Judges: how often an arm picks the candidate that dense picks from the same prompt (arXiv 2601.08343).

A judge that always picks the same letter agrees with dense for free. So three numbers stand beside the share of equal
picks, the *judge consistency*:

- the share expected *by chance*, if each arm picked at random with the shares of its own letters, the sum over letters
  of p(arm) p(dense);
- *Cohen's kappa* (Educational and Psychological Measurement 20, 1960), (consistency - chance) / (1 - chance), which is
  0 by chance and 1 if all picks are equal. It is unknown where both arms have but one letter;
- the consistency of *balanced* picks, from which dense's mean preference for each letter is taken: the letter with the
  largest log-probability minus the mean of dense's over the same prompts. This is batch calibration (arXiv 2309.17249);
  both arms have the offsets of dense.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from analysis import stats
from analysis.arms import Arm
from analysis.stats import Estimate, Floats

Logprobs = Mapping[str, float]
"""By letter."""


def judged(turns: pd.DataFrame) -> pd.DataFrame:
    """Return the turns that pick a candidate, with the columns ``logprobs`` and ``pick``."""
    own = turns[turns["letter_logprobs_json"].notna()]
    logprobs = own["letter_logprobs_json"].map(json.loads)
    return own.assign(logprobs=logprobs, pick=logprobs.map(_best))


def decisions(arm: Arm) -> pd.DataFrame:
    """Return the arm's picks beside dense's from the same prompts, of one number of candidates.

    The columns are ``item``, ``pick``, ``pick_dense``, ``balanced`` and ``balanced_dense``. Empty if there are none.
    """
    pairs = arm.beside("dense")
    ours, theirs = pairs["letter_logprobs_json"], pairs["letter_logprobs_json_dense"]
    same_prompt = pairs["prompt_sha256"] == pairs["prompt_sha256_dense"]
    pairs = pairs[ours.notna() & theirs.notna() & same_prompt]
    both = [pairs[name].map(json.loads) for name in ("letter_logprobs_json", "letter_logprobs_json_dense")]
    offsets = mean_logprobs(list(both[1]))
    return pd.DataFrame(
        {
            "item": pairs["item"].astype(str),
            "pick": both[0].map(_best),
            "pick_dense": both[1].map(_best),
            "balanced": both[0].map(lambda logprobs: _best(_minus(logprobs, offsets))),
            "balanced_dense": both[1].map(lambda logprobs: _best(_minus(logprobs, offsets))),
        }
    )


def mean_logprobs(turns: Sequence[Logprobs]) -> dict[str, float]:
    """Return the mean of each letter's log-probability over turns."""
    return {letter: float(np.mean([one[letter] for one in turns])) for letter in (turns[0] if turns else ())}


def consistency(picks: pd.DataFrame, column: str = "pick") -> Estimate | None:
    """Return the share of ``decisions`` in which both picked the same letter; ``column`` is ``pick`` or
    ``balanced``."""
    if picks.empty:
        return None
    same = picks[column] == picks[f"{column}_dense"]
    if picks["item"].is_unique:
        return stats.proportion(int(same.sum()), len(same))
    return stats.mean(same, picks["item"])


def by_chance(picks: pd.DataFrame, column: str = "pick") -> float | None:
    """Return the consistency that is expected by chance from the shares of both arms' letters."""
    if picks.empty:
        return None
    ours, theirs = letter_shares(picks[column]), letter_shares(picks[f"{column}_dense"])
    return sum(share * theirs.get(letter, 0.0) for letter, share in ours.items())


def kappa(picks: pd.DataFrame, column: str = "pick") -> Estimate | None:
    """Return Cohen's kappa; None if it is undefined, and without an interval if it is in any resample."""
    if picks.empty:
        return None
    letters = sorted({*picks[column], *picks[f"{column}_dense"]})
    if len(letters) == 1:
        return None
    ours_NK, theirs_NK = (
        np.stack([np.asarray(picks[name] == letter, dtype=np.float64) for letter in letters], axis=1)
        for name in (column, f"{column}_dense")
    )
    same_N = (ours_NK * theirs_NK).sum(axis=1)

    def statistic(weights_BN: Floats) -> Floats:
        total_B = weights_BN.sum(axis=1)
        observed_B = (weights_BN @ same_N) / total_B
        chance_B = ((weights_BN @ ours_NK) * (weights_BN @ theirs_NK)).sum(axis=1) / total_B**2
        with np.errstate(invalid="ignore", divide="ignore"):
            kappa_B: Floats = np.where(chance_B < 1, (observed_B - chance_B) / (1 - chance_B), np.nan)
        return kappa_B

    found = stats.bootstrap(statistic, len(picks), picks["item"])
    known = all(end is not None and np.isfinite(end) for end in (found.low, found.high))
    return found if known else replace(found, low=None, high=None)


def letter_shares(picks: "pd.Series[str]") -> dict[str, float]:
    """Return the share of each letter among picks, in alphabetical order."""
    shares = picks.value_counts(normalize=True).sort_index()
    return {str(letter): float(share) for letter, share in shares.items()}


def spelled_out(turns: pd.DataFrame) -> Estimate | None:
    """Return the share of judging turns whose text begins with the letter that they pick; None without any."""
    own = judged(turns)
    if own.empty:
        return None
    begins = [str(text).lstrip().startswith(pick) for text, pick in zip(own["output_text"], own["pick"], strict=True)]
    return stats.mean(begins, own["item"])


def same_candidate(arms: Sequence[Arm]) -> Estimate | None:
    """Return how often a judge picks the same candidate, by its text, when the order of the candidates is another.

    ``arms`` differ in the order alone. Each pair of them counts, over the items that both have; None if no item has
    two orders.
    """
    texts = [_picked_texts(arm) for arm in arms]
    pairs = [(item, one[item] == other[item]) for one, other in combinations(texts, 2) for item in one if item in other]
    if not pairs:
        return None
    items, same = zip(*pairs, strict=True)
    return stats.mean(same, [item for _, item in items])


def _picked_texts(arm: Arm) -> dict[tuple[int, str], str]:
    """Return the text of the candidate picked for each item, by seed and item."""
    turns, own = arm.turns, judged(arm.turns)
    known = zip(turns["trial_id"], turns["sample_index"], turns["agent_index"], turns["output_text"], strict=True)
    texts = {(trial, sample, agent): str(text) for trial, sample, agent, text in known}
    seeds = dict(zip(arm.trials["trial_id"], arm.trials["seed"], strict=True))
    picked = zip(own["trial_id"], own["sample_index"], own["item"], own["logprobs"], own["pick"], strict=True)
    return {
        (int(seeds[trial]), str(item)): texts[trial, sample, list(logprobs).index(pick) + 1]
        for trial, sample, item, logprobs, pick in picked
    }


def _best(logprobs: Logprobs) -> str:
    return max(logprobs, key=logprobs.__getitem__)


def _minus(logprobs: Logprobs, offsets: Logprobs) -> dict[str, float]:
    return {letter: value - offsets[letter] for letter, value in logprobs.items()}
