"""Compare the parts of trial results that must not depend on the time, place or number of attempts."""

import dataclasses
import itertools
from collections.abc import Collection

from harness.results.trial_result import TrialResult

UNSTEADY = {
    "attempt", "resumed_from", "ttft_s", "ttft_paper_s", "decode_s", "tool_s", "latency_s", "ttft_sum_s",
    "decode_sum_s", "energy_j", "ttft_share_s", "decode_share_s", "memory_bytes",
    "memory_start_bytes", "memory_peak_bytes", "load_average_start",
    "load_average_end", "others_cpu_s", "started_at", "ended_at", "started_us", "env_json",
}  # fmt: skip


def steady(record: object, *, without: Collection[str] = ()) -> dict[str, object]:
    """Return the fields of a record that are the same in every attempt, except those in ``without``."""
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    return {n: getattr(record, n) for n in names if n not in UNSTEADY and n not in without and "phase_" not in n}


def differences(found: TrialResult, expected: TrialResult, *, without: Collection[str] = ()) -> list[str]:
    """List the forbidden differences of two results, one line per field, summaries first."""
    pairs = itertools.zip_longest(_records(found), _records(expected))
    lines = []
    for number, (a, b) in enumerate(pairs):
        if a is None or b is None:
            return [*lines, f"{len(_records(found))} records, expected {len(_records(expected))}"]
        fields = steady(b, without=without)
        lines += [
            f"{number} {type(b).__name__}.{name}: {value!r}, expected {fields[name]!r}"
            for name, value in steady(a, without=without).items()
            if value != fields[name]
        ]
    return lines


def _records(result: TrialResult) -> list[object]:
    return [result.trial, *result.turns, *result.samples, *result.fidelity, *result.probes, *result.anchors]
