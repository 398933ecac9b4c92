"""The claims of the paper on the page: each with its verdict on these results, and what would decide it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.claims.claims_view import chance
from analysis.claims.ledger import read_ledger
from analysis.claims.verdicts import Verdict, judge
from analysis.results import Results


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim beside the results of one model and task."""

    verdict: Verdict
    effect: str
    """The effect with its 95 % interval and unit; empty if unknown."""
    p_value: str
    """After Holm's correction; empty if the claim was not tested."""


@dataclass(frozen=True, slots=True)
class ClaimsSection:
    """The claims that the results are about, and how many they are not."""

    ledger_sha256: str
    n_claims: int
    counts: list[tuple[str, int]]
    """Number of rows by verdict: reproduced, contradicted, undecided."""
    n_unlike: int
    """Rows of another model or task than the paper's, or for times on another GPU."""
    judged: list[Judged]
    not_run: list[Verdict]
    """Claims that no trial of these results is about."""


def claims_section(results: Results) -> ClaimsSection | None:
    """Judge the paper's claims on these results; None if no trial is about any of them."""
    ledger = read_ledger(None)
    verdicts = judge(results, ledger)
    judged = [one for one in verdicts if one.model is not None]
    if not judged:
        return None
    counts = Counter(one.verdict for one in judged)
    return ClaimsSection(
        ledger.sha256,
        len(ledger.claims),
        [(name, counts[name]) for name in ("reproduced", "contradicted", "undecided")],
        sum(one.as_in_paper is False for one in judged),
        [
            Judged(one, _effect(one), "" if one.p_adjusted is None else chance(one.p_adjusted))
            for one in _decided_first(judged)
        ],
        [one for one in verdicts if one.model is None],
    )


def _decided_first(verdicts: Iterable[Verdict]) -> Sequence[Verdict]:
    """Return decided claims before undecided ones, otherwise in the ledger's order."""
    return sorted(verdicts, key=lambda one: one.verdict == "undecided")


def _effect(one: Verdict) -> str:
    if one.effect is None:
        return ""
    interval = "" if one.low is None or one.high is None else f" ({one.low:.3g} to {one.high:.3g})"
    return f"{one.effect:.3g}{interval} {one.unit}"
