"""Fill the cells of the paper's tables with our results."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.arms import Arm
from analysis.kinds import kind_of
from analysis.measures import Measure, accuracy_change
from analysis.paper.printed_numbers import Paper, Place, PrintedTable, load_paper
from analysis.paper.table_cells import Cells, Where, cells_in
from analysis.paper.table_rows import Change, PaperRow, PaperTable
from analysis.results import Results
from harness.cells import FlatSpec, Scalar
from harness.workloads.recall import RecallSpec

WhereOf = Callable[[Place], Where]
"""Maps a cell to the spec values of its trials."""
MeasuresOf = Callable[[Place], Mapping[str, Measure]]
"""Maps a cell to the measures of its metrics."""
DenseOf = Callable[[Place], float | None]
"""Maps a cell to the paper's dense accuracy."""


_FACTS = {"A.2": 5}
"""Facts in a ``recall`` story, for tables in which it replaces a workload that is harder than usual."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A cell of the paper."""

    place: Place
    numbers: Mapping[str, float | None]
    """The paper's numbers by metric."""
    where: Where


@dataclass(frozen=True, slots=True)
class _Found:
    """Our results for a cell under one setting."""

    wanted: _Wanted
    settings: FlatSpec
    arm: Arm | None

    @property
    def workload(self) -> Scalar:
        """Name of the cell's workload."""
        return self.wanted.where["workload.name"]


def fill(
    results: Results, number: str, where_of: WhereOf, measures_of: MeasuresOf, dense_of: DenseOf = lambda _: None
) -> list[PaperTable]:
    """Return one table for each of our models that ran any cell, or one table of gaps if none did.

    Then, for each model that ran ``recall`` in place of the table's first graded workload, add the part of the table
    about that workload.
    """
    cells = cells_in(results)
    wanted = [_Wanted(place, numbers, where_of(place)) for place, numbers in load_paper().tables[number].cells()]
    models: Sequence[str | None] = cells.models([one.where for one in wanted]) or [None]
    tables = [_table(cells, number, wanted, model, measures_of, dense_of) for model in models]
    first = wanted[0]
    workload = str(first.where["workload.name"])
    if not kind_of(workload).graded:
        return tables
    standing_in: FlatSpec = {"workload.name": "recall", "workload.facts": _FACTS.get(number, RecallSpec().facts)}
    replaced = [
        replace(one, where={**one.where, **standing_in})
        for one in wanted
        if one.where["workload.name"] == workload and one.place.get("model") == first.place.get("model")
    ]
    models = cells.models([one.where for one in replaced])
    return tables + [_table(cells, number, replaced, model, measures_of, dense_of, workload) for model in models]


def _table(
    cells: Cells,
    number: str,
    wanted: Sequence[_Wanted],
    model: str | None,
    measures_of: MeasuresOf,
    dense_of: DenseOf,
    stand_in_for: str | None = None,
) -> PaperTable:
    paper = load_paper()
    printed = paper.tables[number]
    seeds = _compared_seeds(cells, model, wanted)
    found = [
        _Found(one, settings, arm)
        for one in wanted
        for settings, arm in _arms(
            cells,
            one.where,
            _beside(paper, printed, one.place, model),
            seeds if one.where["method"] == "dense" else None,
        )
    ]
    common, names = _name_settings(found)
    rows: list[PaperRow] = []
    for one, name in zip(found, names, strict=True):
        measures = measures_of(one.wanted.place)
        for metric in one.wanted.numbers:
            row = _row(one, name, metric, printed.units[metric], measures[metric])
            if metric == "accuracy" and one.arm is not None and one.wanted.where["method"] != "dense":
                row = _with_change(row, one.arm, dense_of(one.wanted.place))
            if stand_in_for is not None:
                row = _stood_in(row, str(one.wanted.where["workload.name"]))
            rows.append(row)
    return PaperTable(
        number=number,
        title=printed.title,
        model=model,
        stand_in_for=stand_in_for,
        paper_models=tuple(paper.models_of(printed)),
        common=common,
        notes=tuple(printed.notes),
        rows=tuple(rows),
    )


def _stood_in(row: PaperRow, stand_in: str) -> PaperRow:
    """Relabel the row with the stand-in workload and drop the accuracy difference, which would mean nothing."""
    place = {key: stand_in if key == "workload" else value for key, value in row.place.items()}
    return replace(row, place=place, difference=None if row.metric == "accuracy" else row.difference)


def _beside(paper: Paper, printed: PrintedTable, place: Place, model: str | None) -> str | None:
    """Return ``model``, or None if this cell is not for it because the paper has another cell for that model.

    A model that is not one of the paper's for the workload fits every cell.
    """
    if "model" not in place:
        return model
    theirs = [paper.setup.models[name] for name in printed.models[str(place["workload"])]]
    return model if model not in theirs or model == paper.setup.models[str(place["model"])] else None


def _compared_seeds(cells: Cells, model: str | None, wanted: Sequence[_Wanted]) -> set[Scalar] | None:
    """Return the seeds of the trials that are compared with dense trials; None if there are none.

    A dense trial with another seed may belong to another table and have other items. Its accuracy would then look like
    the effect of a method.
    """
    if model is None:
        return None
    others = [one.where for one in wanted if one.where["method"] != "dense"]
    return {seed for where in others for seed in cells.seeds(where, model)} or None


def _arms(
    cells: Cells, where: Where, model: str | None, seeds: set[Scalar] | None
) -> Sequence[tuple[FlatSpec, Arm | None]]:
    """Return one arm per setting, or a single None if nothing was run."""
    return ([] if model is None else list(cells.arms(model, where, seeds))) or [({}, None)]


def _name_settings(found: Sequence[_Found]) -> tuple[FlatSpec, list[str]]:
    """Return the settings that all share, and for each cell those that vary within its workload."""
    values: defaultdict[tuple[Scalar, str], set[Scalar]] = defaultdict(set)
    ran = [one for one in found if one.arm is not None]
    for one in ran:
        for key, value in one.settings.items():
            values[one.workload, key].add(value)
    names = [
        " ".join(f"{key}={value}" for key, value in one.settings.items() if len(values[one.workload, key]) > 1)
        for one in found
    ]
    first = ran[0].settings if ran else {}
    common = {
        key: value
        for key, value in first.items()
        if all(key in one.settings and one.settings[key] == value for one in ran)
    }
    return common, names


def _row(one: _Found, name: str, metric: str, unit: str, measure: Measure) -> PaperRow:
    paper = one.wanted.numbers[metric]
    ours = gap = None
    if one.arm is None:
        gap = "not run"
    elif one.arm.n_ok == 0:
        gap = f"failed: {', '.join(sorted(set(one.arm.trials['status'])))}"
    else:
        ours = measure(one.arm)
        gap = "not measured" if ours is None else None
    return PaperRow(
        place=one.wanted.place,
        settings=name,
        metric=metric,
        unit=unit,
        paper=paper,
        ours=ours,
        gap=gap,
        difference=None if ours is None or paper is None else ours.value - paper,
        change=None,
        trial_ids=() if one.arm is None else tuple(one.arm.trials["trial_id"]),
    )


def _with_change(row: PaperRow, arm: Arm, dense: float | None) -> PaperRow:
    ours, p_value = accuracy_change(arm)
    paper = None if dense is None or row.paper is None else row.paper - dense
    return replace(row, change=Change(paper=paper, ours=ours, p_value=p_value))
