"""Arms: the trials of one cell with all their rows, and the arms for comparison: dense and, where it ran, ``prefix``.

Turns and answers are paired with those of the trial whose spec differs only in the method, its parameters and its
checks. A timing such as ``ttft`` holds its own turns of dense and ``prefix``.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.devices import devices_of
from analysis.kinds import are_graded
from analysis.pairing import answering_of, numbered, pair_of
from analysis.results import Results, cells_of, plain_values
from analysis.turn_columns import BESIDE, NOT_BESIDE, TURN, UNREAD
from harness.cells import Cell
from harness.natural_order import natural

Baseline = Literal["dense", "prefix"]
"""The arm that another is compared with: no reuse, or the exact reuse of leading text that any server's cache gives."""

T = TypeVar("T")


def reusing(turns: pd.DataFrame) -> "pd.Series[bool]":
    """Return which turns reused more than a method with pools that falls back to an exact leading text."""
    falls_back = turns["no_reuse_reason"].notna() & (turns["estimated_tokens"] == 0)
    chosen: pd.Series[bool] = (turns["mode"] != "dense") & ~falls_back
    return chosen


Frame = Literal["trials", "turns", "samples", "probes", "dense_turns", "prefix_turns", "dense_samples", "twin_samples"]


class Arm:
    """Trials that differ only in the seed. Turns and samples come from ``ok`` trials.

    Rows are selected when they are first used: a table has dozens of columns, and most users need one of the tables.
    Turns and samples have one column more than the results: ``item``, the cluster that a resample keeps together.
    """

    def __init__(self, select: Callable[[Frame], pd.DataFrame]) -> None:
        """``select`` gives the rows of one property."""
        self._select = select

    @cached_property
    def trials(self) -> pd.DataFrame:
        """All attempted trials, including failed ones."""
        return self._select("trials")

    @cached_property
    def turns(self) -> pd.DataFrame:
        """Turns of the trials' own method."""
        return self._select("turns")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Answered items."""
        return self._select("samples")

    @cached_property
    def probes(self) -> pd.DataFrame:
        """Timings of the steps of blending."""
        return self._select("probes")

    @cached_property
    def dense_turns(self) -> pd.DataFrame:
        """Turns of the dense counterparts; empty if there are none."""
        return self._select("dense_turns")

    @cached_property
    def prefix_turns(self) -> pd.DataFrame:
        """Turns of the counterparts by ``prefix``; empty if there are none."""
        return self._select("prefix_turns")

    @cached_property
    def dense_samples(self) -> pd.DataFrame:
        """Answers of the dense trials to the same items."""
        return self._select("dense_samples")

    @cached_property
    def twin_samples(self) -> pd.DataFrame:
        """Answers to the same items by dense trials that differ in the size of batches; empty unless this arm is
        dense."""
        return self._select("twin_samples")

    @property
    def n_ok(self) -> int:
        """Number of successful trials."""
        return int((self.trials["status"] == "ok").sum())

    @cached_property
    def reusing(self) -> pd.DataFrame:
        """Turns that reused all or part of the prompt; see ``reusing``."""
        return self.turns[reusing(self.turns)]

    def paired_turns(self, baseline: Baseline = "dense") -> pd.DataFrame:
        """Join each reusing turn with the baseline's (same item, round, agent), whose columns end in its name."""
        pairs = self.beside(baseline)
        return self.once(f"reusing beside {baseline}", lambda: pairs[reusing(pairs)])

    def beside(self, baseline: Baseline) -> pd.DataFrame:
        """Join each turn, less ``NOT_BESIDE``, with the baseline's of the same item, round and agent: its ``BESIDE``
        columns, which then end in ``_dense`` or ``_prefix``. Drop turns without one. An arm is not compared with
        itself, nor dense with anything."""
        return self._beside_dense if baseline == "dense" else self._beside_prefix

    @cached_property
    def _beside_dense(self) -> pd.DataFrame:
        return self._joined(self.dense_turns, "dense")

    @cached_property
    def _beside_prefix(self) -> pd.DataFrame:
        return self._joined(self.prefix_turns, "prefix")

    def _joined(self, theirs: pd.DataFrame, baseline: Baseline) -> pd.DataFrame:
        compared = ~self.turns["arm"].isin(["dense", baseline])
        keys = ["pair", *TURN]
        own = self.turns.drop(columns=NOT_BESIDE, errors="ignore")
        own = own if compared.all() else own[compared]
        if theirs.empty:
            own = own.iloc[:0]  # a join with nothing copies every column first
        beside = [name for name in BESIDE if name in theirs]  # a reader may have asked for fewer columns
        return own.merge(theirs[[*keys, *beside]], on=keys, suffixes=("", f"_{baseline}"))

    def paired_samples(self) -> pd.DataFrame:
        """Join each answer with the dense answer to the same item; its columns end in ``_dense``.

        The order of the items and the seed are ignored, unless the seed determines the topology: a dense answer does
        not depend on them, and different items have different ids.
        """
        return self._paired_samples

    @cached_property
    def _paired_samples(self) -> pd.DataFrame:
        theirs = self.dense_samples.drop_duplicates(["answers", "item_id"])
        return self.samples.merge(theirs, on=["answers", "item_id"], suffixes=("", "_dense"))

    def once(self, name: str, make: "Callable[[], T]") -> "T":
        """Return what ``make`` derives from this arm's rows, computed once for each name."""
        kept = vars(self)
        if name not in kept:
            kept[name] = make()
        found: T = kept[name]
        return found

    def twin_pairs(self) -> pd.DataFrame:
        """Join each answer of a dense arm with dense answers in batches of another size; their columns end in
        ``_dense``.

        Nothing was reused on either side: only the order differs in which the hardware adds numbers up. So their
        disagreement is the noise that any method's disagreement with dense holds, too.
        """
        pairs = self.samples.merge(self.twin_samples, on=["twin", "item_id"], suffixes=("", "_dense"))
        return pairs[pairs["batch"] != pairs["batch_dense"]]

    def of_agent(self, agent: int) -> "Arm":
        """Return the arm with the turns of one agent only."""

        def select(frame: Frame) -> pd.DataFrame:
            rows: pd.DataFrame = getattr(self, frame)
            return rows[rows["agent_index"] == agent] if frame.endswith("turns") else rows

        return Arm(select)

    def with_frames(self, **frames: pd.DataFrame) -> "Arm":
        """Return the arm with these frames in place of its own."""
        return Arm(lambda frame: frames[frame] if frame in frames else getattr(self, frame))


class Arms:
    """Builds arms from results."""

    def __init__(self, results: Results) -> None:
        """Index the results. Any of their trials may become a dense arm, so pass one sweep, or each trial once."""
        specs = [json.loads(text) for text in results.trials["spec_json"]]
        ids = plain_values(results.trials["trial_id"])
        known = zip(ids, specs, devices_of(results.trials), strict=True)
        # A key is as long as a spec and stands beside every turn, so its number stands there in its place.
        pair = numbered({trial_id: pair_of(trial_id, spec, device) for trial_id, spec, device in known})
        answers = numbered({trial_id: answering_of(spec) for trial_id, spec in zip(ids, specs, strict=True)})
        twins = numbered(
            {i: answering_of({**spec, "batch_size": 0, "wave": 0}) for i, spec in zip(ids, specs, strict=True)}
        )
        batch = {i: f"{spec.get('batch_size', 1)} {spec.get('wave')}" for i, spec in zip(ids, specs, strict=True)}
        method = dict(zip(ids, plain_values(results.trials["method"]), strict=True))
        ungraded = dict(zip(ids, ~are_graded(results.trials), strict=True))
        self._results = results
        turns, samples = results.turns.drop(columns=UNREAD, errors="ignore"), results.samples
        of_turns, of_samples = _ByTrial(turns), _ByTrial(samples)
        alone = of_turns.map(ungraded, bool)
        # Each timing trial draws its own questions; graded items are the same for every seed.
        own_items = turns["item_id"].where(~alone, turns["trial_id"] + " " + turns["item_id"]) if alone.any() else None
        self._turns = turns.assign(
            pair=of_turns.map(pair, np.int64),
            own=turns["arm"] == of_turns.map(method, object),
            item=turns["item_id"] if own_items is None else own_items,
        )
        self._samples = samples.assign(
            pair=of_samples.map(pair, np.int64),
            answers=of_samples.map(answers, np.int64),
            twin=of_samples.map(twins, np.int64),
            batch=of_samples.map(batch, object),
            dense=of_samples.map(method, object) == "dense",
            item=samples["item_id"],
        )
        self._pair, self._answers, self._twins = pair, answers, twins
        # Each row is wanted by several arms; looking for it in all rows every time would take most of a table's time.
        self._places = {
            "turns": _places(self._turns, "trial_id", self._turns["own"]),
            "dense_turns": _places(self._turns, "pair", self._turns["arm"] == "dense"),
            "prefix_turns": _places(self._turns, "pair", self._turns["arm"] == "prefix"),
            "samples": _places(self._samples, "trial_id"),
            "dense_samples": _places(self._samples, "answers", self._samples["dense"]),
            "twin_samples": _places(self._samples, "twin", self._samples["dense"]),
        }
        self._made: dict[frozenset[str], Arm] = {}

    def of(self, trial_ids: Iterable[str]) -> Arm:
        """Return the arm of these trials: the same one each time, so that it selects and joins rows only once."""
        ids = frozenset(trial_ids)
        return self._made.setdefault(ids, Arm(lambda frame: self._rows(frame, ids)))

    def _rows(self, frame: Frame, ids: frozenset[str]) -> pd.DataFrame:
        match frame:
            case "turns" | "samples":
                return self._at(frame, ids)
            case "dense_turns" | "prefix_turns":
                return self._at(frame, {self._pair[one] for one in ids})
            case "dense_samples":
                return self._at(frame, {self._answers[one] for one in ids})
            case "twin_samples":
                twins = self._at(frame, {self._twins[one] for one in ids})
                return twins[~twins["trial_id"].isin(ids)]
            case "trials" | "probes":
                rows: pd.DataFrame = getattr(self._results, frame)
                return rows[rows["trial_id"].isin(ids)]

    def _at(self, frame: Frame, keys: Iterable[Hashable]) -> pd.DataFrame:
        """Return the rows of a frame that have one of the keys, in their order."""
        places = self._places[frame]
        found = [places[key] for key in keys if key in places]
        rows = self._turns if frame.endswith("turns") else self._samples
        return rows.iloc[np.sort(np.concatenate(found)) if found else []]

    def by_cell(self, trials: pd.DataFrame) -> dict[Cell, Arm]:
        """Return one arm per cell of these trials. The methods of a setting are adjacent, dense first."""
        ids: dict[Cell, list[str]] = {}
        known = self._results  # which has named its cells: for 20,000 trials, that takes a second
        cells = known.cells if len(trials) == len(known.trials) else cells_of(trials)
        for cell, trial_id in zip(cells, trials["trial_id"], strict=True):
            ids.setdefault(cell, []).append(trial_id)
        return {cell: self.of(ids[cell]) for cell in sorted(ids, key=place_of)}

    @cached_property
    def graded(self) -> dict[Cell, Arm]:
        """The arms that have graded answers, in row order."""
        trials = self._results.trials
        return self.by_cell(trials[are_graded(trials)])


def arms_of(results: Results) -> Arms:
    """Return the arms of some results; the tables and figures of the same ``Results`` share them."""
    kept = vars(results)  # there, they live as long as the results do
    if "arms" not in kept:
        kept["arms"] = Arms(results)
    found: Arms = kept["arms"]
    return found


def place_of(cell: Cell) -> tuple[object, ...]:
    """Return a sort key: by setting, dense first, numbers by value (``window=5`` before ``window=10``)."""
    names = (cell.workload, cell.settings, str(cell.agents), "" if cell.method == "dense" else cell.method)
    return tuple(natural(name) for name in names)


class _ByTrial:
    """Spreads values of trials over the rows of a table."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._place_N, trial_ids = pd.factorize(rows["trial_id"])
        self._trial_ids = [str(one) for one in trial_ids]

    def map(self, values: Mapping[str, object], dtype: type) -> NDArray[Any]:
        """Return the value of each row's trial ``[N]``."""
        return np.array([values[one] for one in self._trial_ids], dtype=dtype)[self._place_N]


def _places(rows: pd.DataFrame, key: str, chosen: "pd.Series[bool] | None" = None) -> dict[Hashable, NDArray[np.int64]]:
    """Return the positions of the chosen rows by the value of a column."""
    places_N = np.arange(len(rows)) if chosen is None else np.flatnonzero(chosen.to_numpy(dtype=bool, na_value=False))
    value_N, names = pd.factorize(rows[key].iloc[places_N])
    order_N = np.argsort(value_N, kind="stable")
    ends_K = np.cumsum(np.bincount(value_N, minlength=len(names)))
    return dict(zip(names, np.split(places_N[order_N], ends_K[:-1]), strict=True)) if len(names) else {}
