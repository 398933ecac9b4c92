"""What of a trial's result must not depend on when, where and in how many attempts it came about."""

import dataclasses
from collections.abc import Collection

from harness.records import TrialResult

UNSTEADY = {
    "attempt", "resumed_from", "ttft_s", "ttft_paper_s", "decode_s", "tool_s", "latency_s", "memory_bytes",
    "memory_start_bytes", "memory_peak_bytes", "load_average_start", "load_average_end", "others_cpu_s", "started_at",
    "ended_at", "env_json",
}  # fmt: skip


def steady(record: object, *, without: Collection[str] = ()) -> dict[str, object]:
    """The fields of a record that are the same in every attempt, but those of ``without``."""
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    return {n: getattr(record, n) for n in names if n not in UNSTEADY and n not in without and "phase_" not in n}


def steady_rows(result: TrialResult, *, without: Collection[str] = ()) -> list[dict[str, object]]:
    """Of every record of a result, the summary first."""
    records = [result.trial, *result.turns, *result.samples, *result.fidelity, *result.probes]
    return [steady(record, without=without) for record in records]
