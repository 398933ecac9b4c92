"""Arms: the trials of one cell with all their records, and the dense arm beside them.

Turns and answers are paired with those of the dense trial that has the same spec but for the method, its parameters
and its checks. A ``ttft`` trial holds its own dense turns.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

import pandas as pd

from analysis.kinds import are_graded, kind_of
from analysis.load import Records
from harness.cells import Cell, flatten, name_cells
from harness.natural_order import natural
from harness.spec import MethodName

OWN_FIELDS = ("method", "fidelity", *get_args(MethodName))
"""Fields of a spec in which a trial may differ from the dense trial that it is compared with."""

_TURN = ["pair", "sample_index", "item_id", "round", "agent_index"]
"""Names the same turn in both arms."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Trials that differ in nothing but the seed. Turns and samples are those of ``ok`` trials.

    Besides the columns of the records, turns and samples have ``item``: what stays together in a resample.
    """

    trials: pd.DataFrame
    """All that were tried, failed ones included."""
    turns: pd.DataFrame
    """Of the trials' own method."""
    samples: pd.DataFrame
    probes: pd.DataFrame
    dense_turns: pd.DataFrame
    """Of the dense counterparts; empty if there are none."""
    dense_samples: pd.DataFrame

    @property
    def n_ok(self) -> int:
        """Trials that ended well."""
        return int((self.trials["status"] == "ok").sum())

    @property
    def reusing(self) -> pd.DataFrame:
        """The turns that reused anything, all of the prompt or part of it."""
        return self.turns[self.turns["mode"] != "dense"]

    def paired_turns(self) -> pd.DataFrame:
        """Those of them that have a dense turn of the same item, round and agent, whose columns end in ``_dense``."""
        return self.beside_dense(self.reusing)

    def beside_dense(self, turns: pd.DataFrame) -> pd.DataFrame:
        """Those of the arm's turns that have a dense turn of the same item, round and agent, beside it."""
        return turns.merge(self.dense_turns, on=_TURN, suffixes=("", "_dense"))

    def paired_samples(self) -> pd.DataFrame:
        """The answers that have a dense answer to the same item, whose columns end in ``_dense``.

        Neither the order of the items nor the seed is looked at, unless the seed made the topology: a dense answer
        does not depend on them, and other items have other ids.
        """
        theirs = self.dense_samples.drop_duplicates(["answers", "item_id"])
        return self.samples.merge(theirs, on=["answers", "item_id"], suffixes=("", "_dense"))

    def of_agent(self, agent: int) -> "Arm":
        """With the turns of one agent only."""
        turns, dense = (frame[frame["agent_index"] == agent] for frame in (self.turns, self.dense_turns))
        return replace(self, turns=turns, dense_turns=dense)


class Arms:
    """Makes arms of the trials of some records."""

    def __init__(self, records: Records) -> None:
        """A dense arm may be any trial of the records, so they should be of one sweep, or hold each trial once."""
        specs = [json.loads(text) for text in records.trials["spec_json"]]
        ids = list(records.trials["trial_id"])
        pair = {trial_id: _pair(spec, trial_id) for trial_id, spec in zip(ids, specs, strict=True)}
        answers = {trial_id: _answering(spec) for trial_id, spec in zip(ids, specs, strict=True)}
        method = dict(zip(ids, records.trials["method"], strict=True))
        ungraded = dict(zip(ids, ~are_graded(records.trials), strict=True))
        self._trials, self._probes = records.trials, records.probes
        turns, samples = records.turns, records.samples
        alone = turns["trial_id"].map(ungraded).astype(bool)
        self._turns = turns.assign(
            pair=turns["trial_id"].map(pair),
            own=turns["arm"] == turns["trial_id"].map(method),
            # Timings draw other questions for each trial; graded items are the same whatever the seed.
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
        """The arm of these trials."""
        ids = set(trial_ids)
        trials, turns, samples, probes = (
            frame[frame["trial_id"].isin(ids)] for frame in (self._trials, self._turns, self._samples, self._probes)
        )
        dense = (self._turns["arm"] == "dense") & self._turns["pair"].isin({self._pair[one] for one in ids})
        answered = self._samples["dense"] & self._samples["answers"].isin({self._answers[one] for one in ids})
        return Arm(trials, turns[turns["own"]], samples, probes, self._turns[dense], self._samples[answered])

    def by_cell(self, trials: pd.DataFrame) -> dict[Cell, Arm]:
        """One arm for each cell among these trials, the methods of one setting beside each other, dense first."""
        cells = name_cells([flatten(json.loads(text)) for text in trials["spec_json"]])
        ids: dict[Cell, list[str]] = {}
        for cell, trial_id in zip(cells, trials["trial_id"], strict=True):
            ids.setdefault(cell, []).append(trial_id)
        return {cell: self.of(ids[cell]) for cell in sorted(ids, key=place_of)}


def place_of(cell: Cell) -> tuple[object, ...]:
    """By setting, dense before what is compared with it, numbers by value: ``window=5`` before ``window=10``."""
    names = (cell.workload, cell.settings, str(cell.agents), "" if cell.method == "dense" else cell.method)
    return tuple(natural(name) for name in names)


def _pair(spec: dict[str, Any], trial_id: str) -> str:
    """What a trial shares with the dense trial it is compared with."""
    if not kind_of(spec["workload"]["name"]).graded:
        return trial_id
    return json.dumps({key: value for key, value in spec.items() if key not in OWN_FIELDS}, sort_keys=True)


def _answering(spec: dict[str, Any]) -> str:
    """What a trial shares with the dense trials that give the same answers to the same items."""
    workload = {key: value for key, value in spec["workload"].items() if key != "order"}
    seed = spec["seed"] if spec["topology"] == "random" else None
    return _pair({**spec, "workload": workload, "seed": seed}, "")
