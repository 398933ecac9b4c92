"""The words on a sweep's parent run and on the experiment, in Markdown."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.devices import kind_of_device
from harness.cells import FlatSpec, Scalar, scope_of
from harness.natural_order import natural
from harness.results.trial_result import TrialRow
from harness.text import displayed

TRIAL_COLUMNS = (
    "trial_id",
    "status",
    "attempt",
    "model",
    "workload",
    "agents",
    "rounds",
    "seed",
    "method",
    "n_samples",
    "accuracy",
    "token_reuse_rate",
    "turn_reuse_rate",
    "error",
)
"""Columns of the parent run's table of trials."""

_MOST_VALUES = 8
"""The most values of a field that the description lists."""

EXPERIMENT_NOTE = """\
Runs of the KVCOMM harness. A sweep is a run; each of its trials is a run below it, named by what differs in the sweep.

| metric | meaning |
|---|---|
| `speedup` | median over the turns that reused anything of dense TTFT / TTFT of the same turn |
| `ttft_sum_speedup`, `latency_speedup` | dense seconds / seconds, summed over all items: what a conversation gains |
| `ttft_dense_s`, `ttft_reuse_s` | median time to the first token of dense turns, and of turns that reused anything |
| `kl` | mean KL(dense, this) of the next token over the checked turns, in nats |
| `greedy_agreement`, `top1_continuation` | agreement of the checked answers with dense's, 0 to 1 |
| `accuracy_change` | accuracy minus dense's on the same items, -1 to 1 |
| `token_reuse_rate`, `turn_reuse_rate` | share of prompt tokens, and of whole turns, that were reused |
| `<name>_low`, `<name>_high` | ends of the 95 % interval, by items; absent with fewer than five |

A metric that is absent is unknown: no dense trial beside it yet, nothing checked, nothing reused. Parquet is the
record; `kvcomm mlflow-sync` rebuilds what is here.
"""


def sweep_note(folder: Path, rows: Sequence[TrialRow], specs: Mapping[str, FlatSpec]) -> str:
    """Describe a sweep: how to run it again and to look at it, what differs among its trials, and what does not."""
    results, commits = str(folder.parent), sorted({row.git_commit for row in rows if row.git_commit})
    run = shlex.join(["kvcomm", "run", str(folder / "sweep.yaml"), "--results", results])
    show = shlex.join(["kvcomm", "show", str(folder)])
    swept, same = fields_of(list(specs.values()))
    # Each run's parameters hold those of its method, too.
    same = {name: value for name, value in same.items() if "." not in name or name.startswith("workload.")}
    machines = sorted({f"{row.host}, {kind_of_device(row.device, row.env_json)}" for row in rows})
    paragraphs = [
        f"`{run}` runs what is missing of this sweep, whose file is among the artifacts. `{show}` prints its tables.",
        "**Differs:** " + (", ".join(f"`{name}` ({_values(values)})" for name, values in swept.items()) or "nothing"),
        "**Same in all:** " + ", ".join(f"`{name}={value}`" for name, value in same.items()),
        f"**On:** {'; '.join(machines)}"
        + (f"; commit {', '.join(commit[:10] for commit in commits)}" if commits else ""),
    ]
    return displayed("\n\n".join(paragraphs)) if rows else ""


def fields_of(specs: Sequence[FlatSpec]) -> tuple[dict[str, list[Scalar]], dict[str, Scalar]]:
    """Return the fields that differ among the trials that have them, with their values, and those that do not."""
    seen: defaultdict[tuple[str, str], set[Scalar]] = defaultdict(set)
    for spec in specs:
        for key, value in spec.items():
            if value is not None:
                seen[key, scope_of(key, spec)].add(value)
    swept: dict[str, list[Scalar]] = {}
    same: dict[str, Scalar] = {}
    for (key, _), values in sorted(seen.items(), key=lambda item: _in_order(item[0][0])):
        if len(values) > 1:
            swept[key] = sorted({*values, *swept.get(key, [])}, key=lambda value: natural(str(value)))
        else:
            same[key] = next(iter(values))
    return swept, {key: value for key, value in same.items() if key not in swept}


def _in_order(field: str) -> tuple[bool, bool, str]:
    """Return a sort key: the trial's own fields, then the workload's, then the methods'."""
    return "." in field, not field.startswith("workload."), field


def _values(values: Sequence[Scalar]) -> str:
    shown = [str(value) for value in values[:_MOST_VALUES]]
    return ", ".join(shown) + (f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else "")
