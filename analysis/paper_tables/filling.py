"""Lay results beside the cells of one of the paper's tables."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.arms import Arm
from analysis.load import Records
from analysis.measures import Measure, accuracy_change
from analysis.paper import Paper, Place, PrintedTable, load_paper
from analysis.paper_tables.cells import Cells, Where
from analysis.paper_tables.rows import Change, PaperRow, PaperTable
from harness.cells import FlatSpec, Scalar

WhereOf = Callable[[Place], Where]
"""Which trials are a cell's."""
MeasuresOf = Callable[[Place], Mapping[str, Measure]]
"""How a cell's metrics are measured."""
DenseOf = Callable[[Place], float | None]
"""The paper's dense accuracy for a cell."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What one of our settings has for a cell."""

    place: Place
    numbers: Mapping[str, float | None]
    """The paper's, by metric."""
    where: Where
    settings: FlatSpec
    arm: Arm | None

    @property
    def workload(self) -> Scalar:
        """Name of the cell's workload."""
        return self.where["workload.name"]


def fill(
    records: Records, number: str, where_of: WhereOf, measures_of: MeasuresOf, dense_of: DenseOf = lambda _: None
) -> list[PaperTable]:
    """The table once for each of our models that ran any of its cells; once with gaps alone if none did."""
    paper = load_paper()
    printed = paper.tables[number]
    cells = Cells(records)
    tables = []
    models: Sequence[str | None] = cells.models([where_of(place) for place, _ in printed.cells()])
    for model in models or [None]:
        found = [
            _Found(place, numbers, where_of(place), settings, arm)
            for place, numbers in printed.cells()
            for settings, arm in _arms(cells, where_of(place), _beside(paper, printed, place, model))
        ]
        common, names = _name_settings(found)
        rows: list[PaperRow] = []
        for one, name in zip(found, names, strict=True):
            measures = measures_of(one.place)
            for metric in one.numbers:
                row = _row(one, name, metric, printed.units[metric], measures[metric])
                if metric == "accuracy" and one.arm is not None and one.where["method"] != "dense":
                    row = _with_change(row, one.arm, dense_of(one.place))
                rows.append(row)
        tables.append(
            PaperTable(
                number=number,
                title=printed.title,
                model=model,
                paper_models=tuple(paper.models_of(printed)),
                common=common,
                notes=tuple(printed.notes),
                rows=tuple(rows),
            )
        )
    return tables


def _beside(paper: Paper, printed: PrintedTable, place: Place, model: str | None) -> str | None:
    """``model``, or None where it must not stand beside this cell: another of the paper's models for the workload has
    a cell of its own. A model that is none of them stands beside each."""
    if "model" not in place:
        return model
    theirs = [paper.setup.models[name] for name in printed.models[str(place["workload"])]]
    return model if model not in theirs or model == paper.setup.models[str(place["model"])] else None


def _arms(cells: Cells, where: Where, model: str | None) -> Sequence[tuple[FlatSpec, Arm | None]]:
    """One for each of our settings; one without an arm where nothing was run."""
    return ([] if model is None else list(cells.arms(model, where))) or [({}, None)]


def _name_settings(found: Sequence[_Found]) -> tuple[FlatSpec, list[str]]:
    """The settings that all have in common, and of each what differs among those of its workload."""
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
    paper = one.numbers[metric]
    ours = gap = None
    if one.arm is None:
        gap = "not run"
    elif one.arm.n_ok == 0:
        gap = f"failed: {', '.join(sorted(set(one.arm.trials['status'])))}"
    else:
        ours = measure(one.arm)
        gap = "not measured" if ours is None else None
    return PaperRow(
        place=one.place,
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
