"""What the workload of a trial's row says of its kind."""

import pandas as pd

from harness.workloads import UnknownWorkloadError, Workload, find_workload
from harness.workloads.questions import QuestionWorkload


def kind_of(name: str) -> type[Workload]:
    """The class of a workload. One that is not installed here is taken for a workload of questions, as most are."""
    try:
        return find_workload(name)
    except UnknownWorkloadError:
        return QuestionWorkload


def are_graded(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Of each row, whether its trial has graded answers."""
    return trials["workload"].map(lambda name: kind_of(name).graded).astype(bool)
