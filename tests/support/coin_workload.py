"""A third-party kind of trial in one file: it throws a coin, measures the throws and shows them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.tables.shown import Shown
from harness.results.measurements import KVStatistic
from harness.workloads.base import UNUSED_WITHOUT_ANSWERS, Item, Work, Workload
from kvcomm_core.config import require

if TYPE_CHECKING:
    from analysis.results import Results
    from harness.spec import TrialSpec
    from harness.trials.trial_run import TrialRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Coins(Workload):
    """A workload that throws a coin."""

    runner: ClassVar[str] = "coin_workload:throw"
    shown_by: ClassVar[str] = "coin_workload:show"
    tables: ClassVar[tuple[str, ...]] = ("kv_statistics",)
    needs_weights: ClassVar[bool] = False
    instead_of_verdict: ClassVar[str] = "Coins were thrown."
    unused_fields: ClassVar[tuple[str, ...]] = UNUSED_WITHOUT_ANSWERS

    throws: int = 10

    def __post_init__(self) -> None:
        require(self.throws >= 1, "workload.throws", self.throws, "1 or more")

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:
        return Work()


def throw(run: "TrialRun") -> None:
    """Record the share of heads."""
    coins = run.spec.workload
    assert isinstance(coins, Coins)
    rng = random.Random(run.spec.seed)
    heads = sum(rng.random() < 0.5 for _ in range(coins.throws))
    run.kv_statistics.append(
        KVStatistic(
            trial_id=run.spec.trial_id,
            attempt=run.attempt,
            probe="contexts",
            measure="heads",
            statistic="mean",
            value=heads / coins.throws,
            n=coins.throws,
        )
    )
    run.done(1, 1)


def show(results: "Results") -> list[Shown]:
    """Show how many trials threw coins."""
    count = int((results.trials["workload"] == "coin_workload:Coins").sum())
    return [Shown("coins", count, [f"{count} trial(s) threw coins"])]
