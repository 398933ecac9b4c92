"""A table of the paper with our results, as data."""

from dataclasses import dataclass

from analysis.paper.printed_numbers import Place
from analysis.stats import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Accuracy minus the dense arm's, in percentage points: the paper's claim, which is comparable across models."""

    paper: float | None
    ours: Estimate | None
    """Our change over the same items in both arms; None if we have no dense arm."""
    p_value: float | None
    """P-value of McNemar's exact test; None without a dense arm, or if several seeds answered the same items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One number of the paper and our number, in the same unit."""

    place: Place
    """The paper's cell."""
    settings: str
    """Fields that vary among our results for this table; empty if none do."""
    metric: str
    unit: str
    paper: float | None
    """The paper's number; None if the paper prints none or does not identify it."""
    ours: Estimate | None
    gap: str | None
    """Why we have no number: ``not run``, ``failed: oom``, ``not measured``; None if we have one."""
    difference: float | None
    """Ours minus the paper's."""
    change: Change | None
    """Change against dense, for accuracies of methods other than dense."""
    trial_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """A table of the paper beside the results of one model."""

    number: str
    title: str
    model: str | None
    """Our model; None if nothing in the table was run."""
    stand_in_for: str | None
    """The paper's workload, if another replaces it. Then changes are comparable, but accuracies are not."""
    paper_models: tuple[str, ...]
    common: dict[str, str | int | float | bool | None]
    """Settings that all our trials share: ``dtype``, ``max_new_tokens``, ``rounds`` and the like."""
    notes: tuple[str, ...]
    rows: tuple[PaperRow, ...]

    @property
    def measured(self) -> bool:
        """Whether we have a number for any cell."""
        return any(row.ours is not None for row in self.rows)
