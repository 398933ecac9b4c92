"""Rows of the ``trials`` table: from a spec and what happened to one row per attempt. Loads no torch."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from harness.environment import Environment
from harness.records import SampleRecord, Status, TrialResult, TrialRow, TurnRecord
from harness.spec import TrialSpec


def failed_result(
    spec: TrialSpec,
    status: Status,
    error: str,
    *,
    sweep: str,
    attempt: int,
    started_at: datetime,
    environment: Environment,
    device: str | None = None,
) -> TrialResult:
    """The result of a trial that did not finish: a row with the reason, no turns and no samples."""
    return TrialResult(
        trial_row(
            spec,
            status,
            error,
            sweep=sweep,
            attempt=attempt,
            started_at=started_at,
            environment=environment,
            device=device,
        )
    )


def trial_row(
    spec: TrialSpec,
    status: Status,
    error: str | None,
    *,
    sweep: str,
    attempt: int,
    started_at: datetime,
    environment: Environment,
    device: str | None,
) -> TrialRow:
    """The row of an attempt that ends now, its metrics unknown."""
    return TrialRow(
        trial_id=spec.trial_id,
        sweep=sweep,
        status=status,
        error=error,
        attempt=attempt,
        model=spec.model,
        method=spec.method,
        workload=spec.workload.name,
        topology=spec.topology,
        agents=spec.agents,
        rounds=spec.rounds,
        seed=spec.seed,
        spec_json=json.dumps(spec.to_dict(), sort_keys=True),
        n_samples=None,
        n_correct=None,
        accuracy=None,
        token_reuse_rate=None,
        turn_reuse_rate=None,
        pool_bytes_max=None,
        started_at=started_at,
        ended_at=datetime.now(UTC),
        host=environment.host,
        device=device,
        git_commit=environment.git_commit,
        git_dirty=environment.git_dirty,
        env_json=environment.to_json(),
    )


def with_metrics(
    row: TrialRow, turns: Sequence[TurnRecord], samples: Sequence[SampleRecord], pool_bytes_at_end: int | None
) -> TrialRow:
    """``row`` with the metrics of its turns and samples, of which there is at least one each."""
    correct = sum(sample.outcome == "correct" for sample in samples)
    pool_bytes = [size for size in (*(turn.pool_bytes for turn in turns), pool_bytes_at_end) if size is not None]
    return dataclasses.replace(
        row,
        n_samples=len(samples),
        n_correct=correct,
        accuracy=correct / len(samples),
        token_reuse_rate=sum(turn.reused_tokens for turn in turns) / sum(turn.prompt_tokens for turn in turns),
        turn_reuse_rate=sum(turn.mode == "reuse" for turn in turns) / len(turns),
        pool_bytes_max=max(pool_bytes, default=None),
    )
