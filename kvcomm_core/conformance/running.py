"""Run all checks on all small models, and collect what they find."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from kvcomm_core.config import MethodConfig
from kvcomm_core.conformance.accounts import check_accounts
from kvcomm_core.conformance.batches import check_batch, check_isolation, check_padding
from kvcomm_core.conformance.cases import Case, DType, make_case
from kvcomm_core.conformance.exactness import check_exact, check_memory, check_positions, check_repeated
from kvcomm_core.conformance.finding import Finding, finding_of
from kvcomm_core.conformance.learning import check_bounded, check_failed, check_state
from kvcomm_core.models.families import FAMILIES


def check_runs(case: Case) -> str:
    """Build the method, register the templates and take all requests, one after another."""
    return f"{sum(map(len, case.first_run))} turns"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that every method must hold."""

    name: str
    asks: str
    """The demand, in at most 48 characters."""
    run: Callable[[Case], str]
    """Raise ``Finding``, or anything that the method raises, if the method does not hold it. Return what was seen."""
    of_family: bool = False
    """Whether the model's family matters. If not, the check runs on the first family alone."""


CHECKS = (
    Check("runs", "it takes requests, also with empty content", check_runs, of_family=True),
    Check("exact", "turns said to be exact equal dense prefill", check_exact, of_family=True),
    Check("positions", "KV is finite, of these tokens, at their places", check_positions, of_family=True),
    Check("memory", "it reads nothing that nobody has written", check_memory, of_family=True),
    Check("padding", "a batch of different lengths changes nothing", check_padding, of_family=True),
    Check("batch", "a batch gives what single requests give", check_batch),
    Check("isolation", "requests in flight do not see each other", check_isolation),
    Check("failed", "a failed request teaches nothing", check_failed),
    Check("accounts", "reused and computed tokens are those that ran", check_accounts),
    Check("bounded", "memory stops growing, and pool_bytes counts it", check_bounded),
    Check("state", "what it has learnt survives a checkpoint", check_state),
    Check("repeated", "the same run again gives the same", check_repeated),
)
"""In the order in which they run. If the first fails on a model, the others do not run there."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check on one model."""

    check: Check
    family: str
    dtype: DType
    finding: Finding | None
    """The fault; None if there is none."""
    seen: str
    """Facts that the check has seen, such as how many turns reused something; empty if there is nothing to say."""
    seconds: float


def run_checks(
    config: MethodConfig,
    families: Sequence[str] = tuple(FAMILIES),
    dtypes: Sequence[DType] = get_args(DType),
    checks: Sequence[Check] = CHECKS,
) -> Iterator[Result]:
    """Check a method with these parameters, and yield the result of each check on each model as soon as it is known.

    All checks run on the first of the ``families``, and those for which the family matters on the others.
    """
    for family in families:
        for dtype in dtypes:
            case = make_case(config, family, dtype)
            for check in checks:
                if family != families[0] and not check.of_family:
                    continue
                result = _run(check, case)
                yield result
                if result.finding is not None and check.run is check_runs:
                    break


def _run(check: Check, case: Case) -> Result:
    start, finding, seen = time.perf_counter(), None, ""
    try:
        seen = check.run(case)
    except Finding as found:
        finding = found
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a method may raise anything
        finding = finding_of(error)
    return Result(check, case.family, case.dtype, finding, seen, time.perf_counter() - start)
