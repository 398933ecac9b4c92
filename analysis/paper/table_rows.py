"""A table of the paper with results beside its numbers, as data."""

from dataclasses import dataclass

from analysis.paper.printed_numbers import Place
from analysis.stats import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Accuracy minus that of the dense arm, in percentage points: the paper's claim, whatever the model."""

    paper: float | None
    ours: Estimate | None
    """Over the same items in both arms; None if there is no dense arm of ours."""
    p_value: float | None
    """McNemar's exact test; None without a dense arm, or where several seeds answered the same items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One number of the paper and ours, in the same unit."""

    place: Place
    """The paper's cell."""
    settings: str
    """Fields in which our results for this table differ among themselves; empty if there are none."""
    metric: str
    unit: str
    paper: float | None
    """None where the paper prints none, or does not say which it is."""
    ours: Estimate | None
    gap: str | None
    """Why there is nothing of ours: ``not run``, ``failed: oom``, ``not measured``; None if there is."""
    difference: float | None
    """Ours minus the paper's."""
    change: Change | None
    """For accuracies of other methods than dense."""
    trial_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """A table of the paper beside the results of one model."""

    number: str
    title: str
    model: str | None
    """Ours; None if nothing of the table was run."""
    stand_in_for: str | None
    """The paper's workload, where another stands in for it: then accuracies are no match, but changes are."""
    paper_models: tuple[str, ...]
    common: dict[str, str | int | float | bool | None]
    """What our trials have in common: ``dtype``, ``max_new_tokens``, ``rounds`` and the like."""
    notes: tuple[str, ...]
    rows: tuple[PaperRow, ...]

    @property
    def measured(self) -> bool:
        """Whether any cell has a number of ours."""
        return any(row.ours is not None for row in self.rows)
