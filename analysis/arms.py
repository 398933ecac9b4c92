"""Arms: the trials of one cell with all their rows, and the dense arm for comparison.

Turns and answers are paired with those of the dense trial whose spec differs only in the method, its parameters and
its checks. A timing such as ``ttft`` holds its own dense turns.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

import pandas as pd

from analysis.kinds import are_graded, kind_of
from analysis.results import Results, cells_of
from harness.cells import Cell
from harness.natural_order import natural
from harness.spec import MethodName

OWN_FIELDS = ("method", "fidelity", *get_args(MethodName))
"""Spec fields in which a trial may differ from its dense counterpart."""

TURN = ("sample_index", "item_id", "round", "agent_index")
"""Columns that identify the same turn of a trial in both arms."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Trials that differ only in the seed. Turns and samples come from ``ok`` trials.

    Turns and samples have one column more than the results: ``item``, the cluster that a resample keeps together.
    """

    trials: pd.DataFrame
    """All attempted trials, including failed ones."""
    turns: pd.DataFrame
    """Turns of the trials' own method."""
    samples: pd.DataFrame
    probes: pd.DataFrame
    dense_turns: pd.DataFrame
    """Turns of the dense counterparts; empty if there are none."""
    dense_samples: pd.DataFrame

    @property
    def n_ok(self) -> int:
        """Number of successful trials."""
        return int((self.trials["status"] == "ok").sum())

    @property
    def reusing(self) -> pd.DataFrame:
        """Turns that reused all or part of the prompt."""
        return self.turns[self.turns["mode"] != "dense"]

    def paired_turns(self) -> pd.DataFrame:
        """Join each reusing turn with its dense turn (same item, round, agent), whose columns end in ``_dense``."""
        return self.beside_dense(self.reusing)

    def beside_dense(self, turns: pd.DataFrame) -> pd.DataFrame:
        """Join these turns with the dense turns of the same item, round and agent; drop turns without one."""
        return turns.merge(self.dense_turns, on=["pair", *TURN], suffixes=("", "_dense"))

    def paired_samples(self) -> pd.DataFrame:
        """Join each answer with the dense answer to the same item; its columns end in ``_dense``.

        The order of the items and the seed are ignored, unless the seed determines the topology: a dense answer does
        not depend on them, and different items have different ids.
        """
        theirs = self.dense_samples.drop_duplicates(["answers", "item_id"])
        return self.samples.merge(theirs, on=["answers", "item_id"], suffixes=("", "_dense"))

    def of_agent(self, agent: int) -> "Arm":
        """Return the arm with the turns of one agent only."""
        turns, dense = (frame[frame["agent_index"] == agent] for frame in (self.turns, self.dense_turns))
        return replace(self, turns=turns, dense_turns=dense)


class Arms:
    """Builds arms from results."""

    def __init__(self, results: Results) -> None:
        """Index the results. Any of their trials may become a dense arm, so pass one sweep, or each trial once."""
        specs = [json.loads(text) for text in results.trials["spec_json"]]
        ids = list(results.trials["trial_id"])
        pair = {trial_id: _pair(spec, trial_id) for trial_id, spec in zip(ids, specs, strict=True)}
        answers = {trial_id: _answering(spec) for trial_id, spec in zip(ids, specs, strict=True)}
        method = dict(zip(ids, results.trials["method"], strict=True))
        ungraded = dict(zip(ids, ~are_graded(results.trials), strict=True))
        self._trials, self._probes = results.trials, results.probes
        turns, samples = results.turns, results.samples
        alone = turns["trial_id"].map(ungraded).astype(bool)
        self._turns = turns.assign(
            pair=turns["trial_id"].map(pair),
            own=turns["arm"] == turns["trial_id"].map(method),
            # Each timing trial draws its own questions; graded items are the same for every seed.
            item=turns["item_id"].where(~alone, turns["trial_id"] + " " + turns["item_id"]),
        )
        self._samples = samples.assign(
            pair=samples["trial_id"].map(pair),
            answers=samples["trial_id"].map(answers),
            dense=samples["trial_id"].map(method) == "dense",
            item=samples["item_id"],
        )
        self._pair, self._answers = pair, answers

    def of(self, trial_ids: Iterable[str]) -> Arm:
        """Return the arm of these trials."""
        ids = set(trial_ids)
        trials, turns, samples, probes = (
            frame[frame["trial_id"].isin(ids)] for frame in (self._trials, self._turns, self._samples, self._probes)
        )
        dense = (self._turns["arm"] == "dense") & self._turns["pair"].isin({self._pair[one] for one in ids})
        answered = self._samples["dense"] & self._samples["answers"].isin({self._answers[one] for one in ids})
        return Arm(trials, turns[turns["own"]], samples, probes, self._turns[dense], self._samples[answered])

    def by_cell(self, trials: pd.DataFrame) -> dict[Cell, Arm]:
        """Return one arm per cell of these trials. The methods of a setting are adjacent, dense first."""
        ids: dict[Cell, list[str]] = {}
        for cell, trial_id in zip(cells_of(trials), trials["trial_id"], strict=True):
            ids.setdefault(cell, []).append(trial_id)
        return {cell: self.of(ids[cell]) for cell in sorted(ids, key=place_of)}


def place_of(cell: Cell) -> tuple[object, ...]:
    """Return a sort key: by setting, dense first, numbers by value (``window=5`` before ``window=10``)."""
    names = (cell.workload, cell.settings, str(cell.agents), "" if cell.method == "dense" else cell.method)
    return tuple(natural(name) for name in names)


def _pair(spec: dict[str, Any], trial_id: str) -> str:
    """Return a key that a trial shares with its dense counterpart."""
    if kind_of(spec["workload"]["name"]).timing:
        return trial_id
    return json.dumps({key: value for key, value in spec.items() if key not in OWN_FIELDS}, sort_keys=True)


def _answering(spec: dict[str, Any]) -> str:
    """Return a key that a trial shares with the dense trials that give the same answers to the same items."""
    workload = {key: value for key, value in spec["workload"].items() if key != "order"}
    seed = spec["seed"] if spec["topology"] == "random" else None
    return _pair({**spec, "workload": workload, "seed": seed}, "")
