"""Render verdicts on claims for a terminal and the report."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType

from analysis.claims.ledger import Ledger
from analysis.claims.verdicts import Verdict
from analysis.tables.rendering import decimal, row_table

_HEAD = ("claim", "source", "verdict", "model, task", "n", "effect", "95 %\ninterval", "unit", "p, Holm", "ledger")


def print_verdicts(ledger: Ledger, verdicts: Sequence[Verdict], console: Console) -> None:
    """Print the ledger's hash, the table, and what would decide each undecided claim."""
    console.print(render_verdicts(ledger, verdicts), highlight=False)


def render_verdicts(ledger: Ledger, verdicts: Sequence[Verdict]) -> RenderableType:
    """Render the ledger's hash, the table, and what the claims say and need."""
    counts = Counter(one.verdict for one in verdicts)
    other = sum(one.as_in_paper is False for one in verdicts)
    caption = [
        f"ledger: {len(ledger.claims)} claims, sha256 {ledger.sha256}",
        ", ".join(f"{counts[name]} {name}" for name in ("reproduced", "contradicted", "undecided")),
        "Verdicts at 5 % over all tested claims together (Holm). Each holds for the model and task in its row alone;",
        f"{other} are of another model or task than the paper's, or for times another GPU, marked *.",
        "An order holds if the last cell lies beyond the first and no step goes back by the margin; a single step may "
        "be too small to show. Fidelity counts the turns that all cells reused and checked.",
        "The ledger is older than the results where its column says 'before': the trials record its hash.",
        "",
    ]
    rows = [
        (
            one.claim,
            one.source,
            one.verdict,
            "not run" if one.model is None else f"{one.model}, {one.task}{'' if one.as_in_paper else ' *'}",
            "-" if one.n is None else str(one.n),
            decimal(one.effect, 3),
            "-" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}",
            one.unit,
            "-" if one.p_adjusted is None else chance(one.p_adjusted),
            one.ledger or "-",
        )
        for one in verdicts
    ]
    said = {one.claim: f"{one.claim}: {one.says}" for one in verdicts}
    needs = [f"{one.claim}: {one.needs}" for one in verdicts if one.needs is not None]
    lines = ["", "The claims, in our words:", *said.values()]
    lines += (
        ["", "What would decide the others, with a chance of 80 % at the spread observed:", *needs] if needs else []
    )
    table = row_table(_HEAD, rows, left=("claim", "source", "verdict", "model, task", "unit", "ledger"))
    return Group(*caption, table, *lines)


def chance(p_value: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
