"""Look up the kind of a trial from the workload in its row."""

import pandas as pd

from harness.workloads import UnknownWorkloadError, Workload, find_workload
from harness.workloads.questions import QuestionWorkload


def kind_of(name: str) -> type[Workload]:
    """Return the class of a workload. Treat one that is not installed here as a question workload, as most are."""
    try:
        return find_workload(name)
    except UnknownWorkloadError:
        return QuestionWorkload


def are_graded(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Return for each row whether its trial has graded answers."""
    return trials["workload"].map(lambda name: kind_of(name).graded).astype(bool)
