"""The first screen in words: does reuse pay, at what price in answers, and under which conditions.

The sentences cover the cells of one method on all sweeps. They say how many cells show a difference (their 95 %
interval excludes "none"), and what those have in common that no other cell has.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from analysis import stats
from analysis.report.cells import Row, common_to
from analysis.report.compared_arms import Comparison
from analysis.stats import Estimate

Finding = Literal["above", "below", "none", "few"]
"""Whether the interval is above or below "no difference", holds it, or could not be computed from so few items."""
_TOO_FEW = "has too few items to tell"
_FEWEST_CELLS = 5
"""Fewest cells in a half that is summed up by its median."""
Of = Callable[[Comparison], Estimate | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the three sentences."""

    question: str
    number: str
    """The range over all cells, in large type."""
    of: str
    """The quantity that has this range."""
    text: str
    """The sentence."""
    note: str
    """What limits it, in smaller type; may be empty."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The first screen in words."""

    method: str
    """The method that it is about."""
    n_cells: int
    answers: tuple[Answer, ...]


def headline(rows: Sequence[Row]) -> Headline | None:
    """State the answers for ``kvcomm``, or for the method with the most cells; None if no arm may reuse."""
    counts = Counter(row.arm.method for row in rows if row.reuses)
    if not counts:
        return None
    method = "kvcomm" if "kvcomm" in counts else counts.most_common(1)[0][0]
    own = [row for row in rows if row.arm.method == method]
    return Headline(method, len(own), (_pays(own), _price(own), _conditions(own)))


def finding(estimate: Estimate, even: float) -> Finding:
    """Return what an interval shows."""
    if estimate.low is None or estimate.high is None:
        return "few"
    return "above" if estimate.low > even else "below" if estimate.high < even else "none"


def _pays(rows: Sequence[Row]) -> Answer:
    whole, first = _known(rows, lambda arm: arm.latency_gain), _known(rows, lambda arm: arm.ttft_sum_gain)
    firsts = _counts(first, 1.0, "gets first tokens earlier than dense", "gets first tokens later than dense")
    if whole:  # it is what a user waits for, so it comes first
        number, of = _span(whole, "x", 2), "speed of whole items over dense, decoding included"
        items = _counts(whole, 1.0, "takes whole items faster than dense", "takes whole items slower than dense")
        text = f"{items}; {firsts}, with speedups of {_span(first, 'x')}."
    elif first:
        number, of = _span(first, "x"), "speedup of an item's first tokens over dense"
        text = f"{firsts}; whole items are not compared, since none was decoded beside dense."
    else:
        number, of = "not measured", "speed over dense"
        text = "No turn has a dense turn of the same settings beside it, so no gain is measured."
        if any(row.is_rough for row in rows):
            text = "No cell that was timed without other work beside it has dense turns of the same settings."
    prefix = _span(_known(rows, lambda arm: arm.ttft_sum_gain_over_prefix), "x", 2)
    note = "Whether it gains over an exact prefix cache, which any server has, is not measured."
    if prefix:
        note = f"Over an exact prefix cache, which any server has, first tokens gain {prefix}."
    return Answer("Does it pay?", number, of, text, note + (_disturbed(rows) if first or whole else ""))


def _disturbed(rows: Sequence[Row]) -> str:
    """Say which times were taken beside other work, or left out for it; empty if there were none, as far as the trials
    know."""
    rough = [row for row in rows if row.is_rough]
    if not rough:
        return ""
    cells = f"{len(rough)} of {len(rows)} cells" if len(rows) > 1 else "it"
    busy = f"other processes kept {span_of([row.arm.others_cores or 0.0 for row in rough], ' cores')} busy"
    if all(row.arm.latency_gain is None and row.arm.ttft_sum_gain is None for row in rough):
        return f" Times of {cells} are left out: {busy} while they ran."
    return f" Its times are rough: while {cells} ran, {busy}."


def _price(rows: Sequence[Row]) -> Answer:
    known = _known(rows, lambda arm: arm.change)
    text = _counts(known, 0.0, "answers more items right than dense", "answers fewer items right than dense")
    kl = [one.value for _, one in _known(rows, lambda arm: arm.kl)]
    if not known:
        text = "Accuracy is not compared: no graded answer has a dense answer to the same item beside it"
    if kl:
        text += (
            f"; the next token's distribution is {_digits(min(kl))} to {_digits(max(kl))} nats from dense "
            f"(KL, median over cells {_digits(median(kl))})"
        )
    note = _unshown([one for _, one in known if finding(one, 0.0) == "none"])
    number = _span(known, " points", sign="+") or "not measured"
    return Answer("At what price in answers?", number, "accuracy minus that of dense", f"{text}.", note)


def _unshown(held: Sequence[Estimate]) -> str:
    """Say how large a change could be in cells that show none; empty if there are none."""
    if not held:
        return ""
    items = sorted({one.n_clusters for one in held})
    few = f"with {items[0]} items" if len(items) == 1 else f"with {items[0]} to {items[-1]} items"
    low, high = min(one.low or 0.0 for one in held), max(one.high or 0.0 for one in held)
    if low == high:  # no answer changed its grade, which makes a bootstrapped interval of no width
        most = 100 * (stats.proportion(0, items[0]).high or 0.0)
        return f"No item changed its grade; {few} a cell, up to {most:.0f} % of all items could still (Wilson, 95 %)."
    return (
        f"To show no difference is not to show that there is none: {few} a cell, these intervals reach from "
        f"{span_of([low, high], ' points', digits=0, sign='+')}."
    )


def _conditions(rows: Sequence[Row]) -> Answer:
    gains = _known(rows, lambda arm: arm.ttft_sum_gain)
    turns = [one.value for _, one in _known(rows, lambda arm: arm.turn_reuse)]
    text = "No cell has a gain that could depend on conditions."
    if gains:
        (worst, least), (best, most) = (end(gains, key=lambda pair: pair[1].value) for end in (min, max))
        text = f"First tokens gain most in {best.name} ({most.value:.1f}x)"
        if most.value > least.value:
            text += f" and least in {worst.name} ({least.value:.1f}x)"
        text += f"{_by_length(gains)}."
    shares = [one.value for _, one in _known(rows, lambda arm: arm.decode_share)]
    bounds = [
        100 * gain.value / share.value
        for row in rows
        if (gain := row.arm.latency_gain) and (share := row.arm.decode_share) and share.value
    ]
    note = ""
    if bounds:
        note = (
            f"Reuse spares prefill, not decoding, which takes {span_of(shares, ' %', digits=0)} of an item's time: "
            f"with no prefill at all, items would be at most {max(bounds):.2f} times as fast."
        )
    number = span_of(turns, " %", digits=0) or "not measured"
    return Answer("Under which conditions?", number, "of the turns reused every segment", text, note)


def _by_length(gains: Sequence[tuple[Row, Estimate]]) -> str:
    """Compare the halves of the cells with shorter and with longer prompts, unless all prompts are about as long."""
    ordered = sorted((row.arm.prompt_tokens, one.value) for row, one in gains)
    shorter, longer = ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]
    if len(shorter) < _FEWEST_CELLS or longer[-1][0] < 2 * shorter[0][0]:
        return ""
    medians = [median(gain for _, gain in half) for half in (shorter, longer)]
    return (
        f"; the half of the cells with prompts of {shorter[0][0]:.0f} to {shorter[-1][0]:.0f} tokens has a median gain "
        f"of {medians[0]:.1f}x, the half with longer ones, up to {longer[-1][0]:.0f}, of {medians[1]:.1f}x"
    )


def _counts(known: Sequence[tuple[Row, Estimate]], even: float, above: str, below: str) -> str:
    """Return the numbers of cells by what their intervals show, and what tells them from the other cells.

    ``above`` and ``below`` are what one cell then does: ``takes whole items faster``.
    """
    words: dict[Finding, str] = {"above": above, "below": below, "none": "shows no difference", "few": _TOO_FEW}
    found: dict[Finding, list[Row]] = {}
    for row, one in known:
        found.setdefault(finding(one, even), []).append(row)
    parts: list[str] = []
    for kind, word in words.items():
        own = found.get(kind, [])
        if own:
            rest = [row for other, others in found.items() if other not in (kind, "few") for row in others]
            told = common_to(own, rest) if kind in ("above", "below") else None
            cells = "" if parts else f" of {len(known)} {'cell' if len(known) == 1 else 'cells'}"
            does = word if len(own) == 1 else _plural(word)
            parts.append(f"{len(own)}{cells} {does}" + (f" ({told})" if told else ""))
    return ", ".join(parts)


def _plural(does: str) -> str:
    verb, _, rest = does.partition(" ")
    return f"{'have' if verb == 'has' else verb.removesuffix('s')} {rest}"


def _known(rows: Sequence[Row], of: Of) -> list[tuple[Row, Estimate]]:
    return [(row, one) for row in rows if (one := of(row.arm)) is not None]


def span_of(values: Sequence[float], unit: str, *, digits: int = 1, sign: str = "") -> str:
    """Return the range of values: ``1.0 to 2.0x``; empty if there are none."""
    if not values:
        return ""
    low, high = (f"{end(values):{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}") for end in (min, max))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _span(known: Sequence[tuple[Row, Estimate]], unit: str, digits: int = 1, sign: str = "") -> str:
    return span_of([one.value for _, one in known], unit, digits=digits, sign=sign)


def _digits(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"
