"""Shards: one trial's items divided over several units of work, and their results merged again.

Item i goes to shard i mod n, so that every shard meets the items in the trial's order, both early and late ones. Each
shard runs with its own pools on any free replica. Its first samples are dense again, and samples of other shards are no
anchors, so ``kvcomm`` reuses less. That is why ``shards`` is part of a trial's identity.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from harness.results.measurements import FidelityRecord
from harness.results.summary import PoolBytes, with_metrics
from harness.results.trial_result import SampleRecord, TrialResult, TrialRow, TurnRecord
from harness.spec import TrialSpec
from harness.workloads import Item
from kvcomm_core.config import require

Record = TypeVar("Record", TurnRecord, SampleRecord, FidelityRecord)


def items_of_shard(items: Sequence[Item], shard: int, shards: int) -> list[tuple[int, Item]]:
    """Return the items of one shard, each with its position in the trial. Raise ``ValueError`` if a shard would be
    empty."""
    check_shards(shards, len(items))
    return list(enumerate(items))[shard::shards]


def check_shards(shards: int, items: int) -> None:
    """Raise ``ValueError`` if there are more shards than items."""
    require(shards <= items, "shards", shards, f"1 to {items}, the number of items")


def merge_shards(spec: TrialSpec, results: Mapping[int, TrialResult], attempt: int) -> TrialResult:
    """Merge the results of a trial's shards, numbered from 0, each from this or an earlier attempt.

    If one shard failed, the trial failed, with the reason of the first failure; the other results may then be missing.
    The rows are in the order of the items, all under ``attempt``. In the summary:

    - ``pool_bytes_by_placeholder`` and ``pool_bytes_public_layout`` are sums over the shards; ``pool_bytes_max`` and
      the memory figures are those of the largest shard, which is what a replica must hold;
    - the time runs from the start of the first to the end of the last; load figures of single machines stay unknown;
    - ``sandbox_layers`` are those that confined every shard; ``host`` names all hosts.

    Raise ``ValueError`` if shards are missing or ran different models.
    """
    if spec.shards == 1:
        return results[0]
    messages = [message for shard in sorted(results) for message in results[shard].messages]
    for shard in sorted(results):
        row = results[shard].trial
        if row.status != "ok":
            error = of_shard(spec, shard, row.error or "no reason known")
            return TrialResult(dataclasses.replace(row, attempt=attempt, error=error), messages=messages)
    if sorted(results) != list(range(spec.shards)):
        raise ValueError(f"results are of shards {sorted(results)}; allowed: each of 0 to {spec.shards - 1}")
    parts = [results[shard] for shard in range(spec.shards)]
    _require_one_model([part.trial for part in parts])
    turns = _in_order([part.turns for part in parts], attempt)
    samples = _in_order([part.samples for part in parts], attempt)
    anchors = None
    if all(part.trial.anchors_at_end is not None for part in parts):
        anchors = [dataclasses.replace(anchor, attempt=attempt) for part in parts for anchor in part.anchors]
    row = with_metrics(_merged([part.trial for part in parts], attempt), turns, samples, _all_pools(parts), anchors)
    row = dataclasses.replace(row, pool_bytes_max=_largest([part.trial.pool_bytes_max for part in parts]))
    fidelity = _in_order([part.fidelity for part in parts], attempt)
    return TrialResult(row, turns, samples, fidelity, anchors=anchors or [], messages=messages)


def _require_one_model(rows: Sequence[TrialRow]) -> None:
    """Raise ``ValueError`` if shards ran different models, as on nodes with copies of their own."""
    for name in ("weights_digest", "tokenizer_digest", "template_digest"):
        found = list(dict.fromkeys(getattr(row, name) for row in rows))
        if len(found) > 1:
            raise ValueError(f"{name} is {' and '.join(map(str, found))}; allowed: the same in all shards of a trial")


def _merged(rows: Sequence[TrialRow], attempt: int) -> TrialRow:
    """Return what the rows of all shards say about the conditions of the trial."""
    layers = [row.sandbox_layers.split() for row in rows if row.sandbox_layers is not None]
    return dataclasses.replace(
        rows[0],
        attempt=attempt,
        resumed_from=sum(row.resumed_from or 0 for row in rows),
        sandbox_layers=" ".join(x for x in layers[0] if all(x in other for other in layers)) if layers else None,
        memory_start_bytes=_largest([row.memory_start_bytes for row in rows]),
        memory_peak_bytes=_largest([row.memory_peak_bytes for row in rows]),
        exclusive=all(row.exclusive for row in rows),
        load_average_start=None,
        load_average_end=None,
        others_cpu_s=None,
        started_at=min(row.started_at for row in rows),
        ended_at=max(row.ended_at for row in rows),
        host=" ".join(dict.fromkeys(row.host for row in rows)),
    )


def of_shard(spec: TrialSpec, shard: int, reason: str) -> str:
    """Return the reason why a trial failed, naming the shard if it has several."""
    return reason if spec.shards == 1 else f"shard {shard + 1} of {spec.shards}: {reason}"


def _in_order(parts: Sequence[Sequence[Record]], attempt: int) -> list[Record]:
    """Return the records of all shards ordered by item, and unchanged within an item."""
    records = sorted((record for part in parts for record in part), key=lambda record: record.sample_index)
    return [dataclasses.replace(record, attempt=attempt) for record in records]


def _all_pools(results: Sequence[TrialResult]) -> PoolBytes | None:
    sizes: Counter[str] = Counter()
    public = 0
    for row in (result.trial for result in results):
        if row.pool_bytes_by_placeholder is None or row.pool_bytes_public_layout is None:
            return None
        sizes.update(json.loads(row.pool_bytes_by_placeholder))
        public += row.pool_bytes_public_layout
    return PoolBytes(dict(sizes), public)


def _largest(sizes: Sequence[int | None]) -> int | None:
    """Return the largest of the known sizes."""
    return max((size for size in sizes if size is not None), default=None)
