"""Find the trials of a claim's cells: by their specs, whatever sweep ran them.

A cell's trials have the fields that the claim gives, the defaults of all other fields of their method and workload, one
round, full connection, a built-in team whose agents read each other's answers, and the file's order. Only the fields of
``_FREE``, of the machine, of the weights' format and of the length of answers and of a trial may differ from the
paper's; the cells of one comparison agree in them. Each model and task is a comparison of its own, and so is each kind
of device for times.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain

import pandas as pd

from analysis.arms import Arm, Arms
from analysis.claims.ledger import Claim, Side
from analysis.claims.quantities import QUANTITIES
from analysis.devices import devices_of
from analysis.results import Results, flat_specs
from harness.cells import FlatSpec, Scalar, flatten, method_fields
from harness.methods import BUILT_IN, parameters_key
from harness.spec import TrialSpec
from harness.workloads import UnknownWorkloadError, read_workload

_FREE = ("name", "limit", "path", "repeats", "decode")
"""Fields of a workload that may differ from its defaults: how much is measured, and from which file."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The rows of a claim's measure in each of its cells, for one model and task."""

    model: str
    task: str
    settings: str
    """The fields that the claim leaves open, as ``max_new_tokens=24 workload.limit=24``."""
    rows: tuple[pd.DataFrame, ...]
    """The rows of ``quantities.Quantity.rows``, one frame for each cell; none is empty."""
    trial_ids: tuple[str, ...]

    @property
    def n_items(self) -> int:
        """Fewest items, or repeats of a timing, that a cell has."""
        return min(rows["item"].nunique() for rows in self.rows)


class ClaimCells:
    """The trials of some results, searchable by claim."""

    def __init__(self, results: Results) -> None:
        """Index the results. Keep one run of a trial that several sweeps ran."""
        results = results.each_trial_once()
        self._arms = Arms(results)
        ok = results.ok_trials.sort_values("ended_at", kind="stable")
        self._specs = {trial_id: with_defaults(spec) for trial_id, spec in flat_specs(ok).items()}
        self._seeds = dict(zip(ok["trial_id"], ok["seed"], strict=True))
        self._devices = dict(zip(ok["trial_id"], devices_of(ok), strict=True))

    def observed(self, claim: Claim) -> Iterator[Observed]:
        """Yield the comparison with most items for each model and task that ran all cells of the claim."""
        for task in claim.tasks:
            cells = [(where, side.get("agent")) for side in claim.cells for where in [where_of(side, task)]]
            fixed = {key for where, _ in cells for key in where}
            timing = QUANTITIES[claim.measure].timing
            found: dict[tuple[str, str, str], list[dict[Scalar, str]]] = {}
            for trial_id, spec in self._specs.items():
                for index, (where, _) in enumerate(cells):
                    if matches(spec, where):
                        device = str(self._devices[trial_id]) if timing else ""
                        key = str(spec["model"]), _settings(spec, fixed), device
                        own = found.setdefault(key, [{} for _ in cells])[index]
                        if spec["seed"] not in own or not self._checks_more(own[spec["seed"]], trial_id):
                            own[spec["seed"]] = trial_id  # the later one, which may be of a later version
            best: dict[str, Observed] = {}
            for (model, settings, _), by_seed in sorted(found.items()):
                trials = [list(own.values()) for own in by_seed]
                rows = self._rows(claim, trials, [agent for _, agent in cells]) if all(trials) else ()
                if rows and not any(frame.empty for frame in rows):
                    one = Observed(model, task, settings, rows, tuple(dict.fromkeys(chain(*trials))))
                    if model not in best or one.n_items > best[model].n_items:
                        best[model] = one
            yield from best.values()

    def _checks_more(self, trial_id: str, other: str) -> bool:
        """Whether a trial is the better of two that differ only in the share of turns that they check."""
        share, theirs = (float(self._specs[one].get("fidelity") or 0) for one in (trial_id, other))
        return share > theirs

    def _rows(self, claim: Claim, trials: list[list[str]], agents: list[Scalar]) -> tuple[pd.DataFrame, ...]:
        quantity = QUANTITIES[claim.measure]
        frames = []
        for ids, agent in zip(trials, agents, strict=True):
            arm = self._arms.of(ids)
            rows = quantity.rows(arm if agent is None else _of_agent(arm, agent))
            frames.append(rows.assign(seed=rows["trial_id"].map(self._seeds)) if quantity.key else rows)
        if not quantity.key:
            return tuple(frames)
        keys = [frame.set_index(list(quantity.key)).index for frame in frames]
        shared = keys[0]
        for index in keys[1:]:
            shared = shared[shared.isin(index)]
        aligned = (frame.set_index(list(quantity.key)).loc[lambda own: own.index.isin(shared)] for frame in frames)
        return tuple(frame.sort_index().reset_index() for frame in aligned)


def _of_agent(arm: Arm, agent: Scalar) -> Arm:
    assert isinstance(agent, int)  # noqa: S101 - the ledger checked it
    return arm.of_agent(agent)


def where_of(side: Side, task: str) -> FlatSpec:
    """Return the spec fields of a cell's trials."""
    method = str(side["method"])
    scopes = ("workload.", f"{parameters_key(method)}.")
    defaults = {key: value for key, value in _defaults_of(method, task).items() if key.startswith(scopes)}
    for key in _FREE:
        defaults.pop(f"workload.{key}", None)
    given = {key: value for key, value in side.items() if key != "agent"}
    plain: FlatSpec = {"rounds": 1, "topology": "fully_connected", "team": None, "answers": "own"}
    return {**plain, **defaults, "workload.name": task, **given}


def matches(spec: FlatSpec, where: FlatSpec) -> bool:
    """Whether a spec, ``with_defaults``, has these values."""
    return all(key in spec and spec[key] == value for key, value in where.items())


def with_defaults(spec: FlatSpec) -> FlatSpec:
    """Return a spec with the defaults of the fields that its version did not know yet."""
    method = str(spec["method"])
    with suppress(UnknownWorkloadError):  # that of a plug-in that is not installed here
        return {**_defaults_of(method if method in BUILT_IN else "dense", str(spec["workload.name"])), **spec}
    return spec


@cache
def _defaults_of(method: str, workload: str) -> FlatSpec:
    return flatten(TrialSpec(method=method, workload=read_workload({"name": workload})).to_dict())


def _settings(spec: FlatSpec, fixed: set[str]) -> str:
    left_out = {"model", "seed", *fixed, *method_fields(spec)}
    open_fields = (
        (key, value)
        for key, value in sorted(spec.items())
        if key not in left_out and key.partition(".")[0] not in method_fields(spec) and value is not None
    )
    return " ".join(f"{key}={json.dumps(value) if isinstance(value, bool) else value}" for key, value in open_fields)
