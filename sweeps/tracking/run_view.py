"""The contents of a trial's MLflow run: one function computes them from an attempt's records.

A running sweep and ``kvcomm mlflow-sync``, which reads the records back from Parquet, both use ``view_of``. So they
cannot write different contents.
"""

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from analysis.results import with_current_names
from harness.cells import flatten
from harness.results.conversations import MEASURES, conversation_of
from harness.results.no_reuse import REUSED, count_accounts
from harness.results.rates import accuracy, token_reuse_rate, turn_reuse_rate
from harness.results.trial_result import SampleRecord, TrialResult, TrialRow, TurnRecord
from harness.text import displayed
from sweeps.tracking.tags_and_metrics import METRICS, MODEL_TAGS, SAMPLE_COLUMNS, TAGS, TURN_COLUMNS

VIEW = "5"
"""Version of the contents. Raise it when they change, so that the next sync rewrites earlier runs."""

POINTS = 200
"""The most points of a curve over samples. A longer trial shows evenly spaced samples, including its last."""

_REFUSED = re.compile(r"[^\w-]+")
_MAX_NAME = 200
_MAX_PARAM = 6000  # MLflow rejects longer values
_MAX_TAG = 5000


@dataclass(frozen=True, slots=True)
class DatasetView:
    """The questions of a trial, to find runs on the same questions."""

    name: str
    digest: str
    """Digest of the item ids and expected answers, in order."""
    source: str
    """The workload's fields and the seed, as a JSON object."""
    profile: str
    """The number of items, as a JSON object."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """The model of a trial, to find runs with equal weights."""

    name: str
    """As in the sweep file, in characters that MLflow allows."""
    digest: str
    """Digest of weights, tokenizer and quantisation: of what a name may stand for."""
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunView:
    """The contents of one MLflow run."""

    name: str
    started_ms: int
    ended_ms: int
    status: str
    """``FINISHED`` or ``FAILED``."""
    params: dict[str, str]
    tags: dict[str, str]
    absent_tags: list[str]
    """Tags of an earlier attempt that this one does not have."""
    metrics: list[tuple[str, float, int]]
    """Triples of name, value and step."""
    dataset: DatasetView | None
    """None for an attempt without graded items."""
    model: ModelView | None
    """None for an attempt that failed."""
    files: dict[str, str]
    """Text of each artifact, keyed by name."""


def view_of(result: TrialResult, name: str, estimates: Mapping[str, float]) -> RunView:
    """Return the run of one attempt. ``estimates`` are its metrics that ``comparisons.py`` computes."""
    row = result.trial
    spec = json.loads(row.spec_json)
    parameters = flatten(json.loads(with_current_names(row.spec_json)))
    files = {"spec.json": json.dumps(spec, indent=2)}
    if result.samples:
        files["samples.json"] = table_json(result.samples, SAMPLE_COLUMNS)
    if result.turns:
        files["turns.json"] = table_json(result.turns, TURN_COLUMNS)
    known = {f"kvcomm.{name}": getattr(row, name) for name in TAGS}
    known["kvcomm.error"] = (row.error or "").strip() or None
    # Some databases cannot store NUL. Files can: JSON escapes it.
    tags = {name: displayed(str(value))[-_MAX_TAG:] for name, value in known.items() if value is not None}
    tags["kvcomm.view"] = VIEW
    tables = [{"path": name, "type": "table"} for name in files if name != "spec.json"]
    return RunView(
        name=name,
        started_ms=int(row.started_at.timestamp() * 1000),
        ended_ms=int(row.ended_at.timestamp() * 1000),
        status="FINISHED" if row.status == "ok" else "FAILED",
        params={key: displayed(str(value))[:_MAX_PARAM] for key, value in parameters.items() if value is not None},
        # This tag makes the run's page show them as tables. The client's ``log_table`` sets it too, but appends to an
        # existing table, so a repeated sync would double the rows.
        tags={**tags, "mlflow.loggedArtifacts": json.dumps(tables)},
        absent_tags=[name for name, value in known.items() if value is None],
        # MLflow's pages show the first ones first.
        metrics=[*at_the_end(estimates), *_totals(result), *_curves(row.method, result)],
        dataset=_dataset(row, spec, result.samples),
        model=_model(row),
        files=files,
    )


def table_json(rows: Sequence[object], columns: Sequence[str]) -> str:
    """Return records in MLflow's table format: ``{"columns": [...], "data": [[...], ...]}``."""
    data = [[getattr(row, column) for column in columns] for row in rows]
    return json.dumps({"columns": list(columns), "data": data}, default=str)


def at_the_end(metrics: Mapping[str, float]) -> list[tuple[str, float, int]]:
    """Return metrics that have one value for the whole trial as triples of name, value and step."""
    return [(name, value, 0) for name, value in metrics.items()]


def _totals(result: TrialResult) -> Iterator[tuple[str, float, int]]:
    row = result.trial
    values = {name: getattr(row, name) for name in METRICS}
    values["duration_s"] = (row.ended_at - row.started_at).total_seconds()
    values |= _of_conversations(result) | _no_reuse([turn for turn in result.turns if turn.arm == row.method])
    for name, value in values.items():
        # MLflow stores infinity as a huge number, and has no value for unknown.
        if value is not None and math.isfinite(value):
            yield name, float(value), 0


def _of_conversations(result: TrialResult) -> dict[str, float | None]:
    """Return the measures over the trial's items: TTFT summed over turns, latency, items per minute and others."""
    energy_j = {sample.sample_index: sample.energy_j for sample in result.samples}
    taken: defaultdict[int, list[TurnRecord]] = defaultdict(list)
    for turn in result.turns:
        if turn.arm == result.trial.method:
            taken[turn.sample_index].append(turn)
    items = [conversation_of(turns, energy_j.get(index)) for index, turns in taken.items()]
    return {name: measure.over(items) for name, measure in MEASURES.items()}


def _no_reuse(turns: Sequence[TurnRecord]) -> dict[str, float | None]:
    """Return the share of the turns that did not reuse, by reason."""
    counts = count_accounts(turns) or {}
    shares: defaultdict[str, float] = defaultdict(float)
    for (reason, _), count in counts.items():
        if reason != REUSED[0]:
            shares[f"no_reuse/{reason}"] += count / sum(counts.values())
    return {**shares}


def _curves(method: str, result: TrialResult) -> Iterator[tuple[str, float, int]]:
    """Yield accuracy, reuse and time to first token over all samples up to each step."""
    outcomes = {sample.sample_index: sample.outcome for sample in result.samples}
    turns: dict[int, list[TurnRecord]] = {}
    for turn in result.turns:
        if turn.arm == method:
            turns.setdefault(turn.sample_index, []).append(turn)
    steps = sorted(outcomes.keys() | turns.keys())
    drawn = {steps[(len(steps) - 1) * point // (POINTS - 1)] for point in range(POINTS)} if steps else set()
    graded: list[str | None] = []
    taken: list[TurnRecord] = []
    for step in steps:
        graded += [outcomes[step]] if step in outcomes else []
        taken += turns.get(step, [])
        if step not in drawn:
            continue
        so_far = {
            "accuracy": accuracy(graded),
            "token_reuse_rate": token_reuse_rate((t.reused_tokens for t in taken), (t.prompt_tokens for t in taken)),
            "turn_reuse_rate": turn_reuse_rate(turn.mode for turn in taken),
            "ttft_s_median": median(turn.ttft_s for turn in taken) if taken else None,
        }
        yield from ((f"running/{name}", value, step) for name, value in so_far.items() if value is not None)


def _dataset(row: TrialRow, spec: dict[str, object], samples: Sequence[SampleRecord]) -> DatasetView | None:
    if not samples:
        return None
    items = json.dumps([[sample.item_id, sample.expected] for sample in samples])
    source = json.dumps({"workload": spec["workload"], "seed": spec["seed"]}, sort_keys=True)
    profile = json.dumps({"num_rows": len(samples)})
    return DatasetView(row.workload, hashlib.sha256(items.encode()).hexdigest()[:16], source, profile)


def _model(row: TrialRow) -> ModelView | None:
    known = {name: getattr(row, name) for name in MODEL_TAGS if getattr(row, name) is not None}
    if row.status != "ok":  # of a trial that failed, the model may not have been loaded
        return None
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    # MLflow refuses /, :, ., %, quotes in names.
    return ModelView(_REFUSED.sub("-", row.model)[:_MAX_NAME], digest, known)
