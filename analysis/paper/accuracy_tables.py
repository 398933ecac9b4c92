"""The paper's tables of accuracy and reuse: 1, 4, 5, 6, A.2, A.3 and A.4."""

from collections.abc import Mapping

from analysis.measures import Measure, accuracy, token_reuse, turn_reuse
from analysis.paper.filling import DenseOf, fill
from analysis.paper.printed_numbers import Place, load_paper
from analysis.paper.table_cells import Where, cells_in, graded
from analysis.paper.table_rows import PaperTable
from analysis.results import Results

_STEPS = {
    "rotation": (True, False, False),
    "placeholder": (False, True, False),
    "text": (False, False, True),
    "rotation + placeholder": (True, True, False),
    "rotation + text": (True, False, True),
    "placeholder + text": (False, True, True),
    "all": (True, True, True),
}
"""Rows of table 5: whether keys are rotated, and whether the placeholder and text offsets are added."""


def table_1(results: Results) -> list[PaperTable]:
    """Return accuracy and reuse rate by workload, method and number of agents."""
    return fill(results, "1", _own_cell, _by_method, _dense_beside("1"))


def table_4(results: Results) -> list[PaperTable]:
    """Return accuracy by request order. The first two seeds of ``random`` are matched with the paper's two."""
    cells = cells_in(results)
    shuffled = graded("mmlu", 4, "kvcomm", order="random")
    seeds = cells.seeds(shuffled) or cells.seeds({**shuffled, "workload.name": "recall"})

    def where(place: Place) -> Where:
        order = str(place["order"])
        if order == "any":
            return graded("mmlu", 4, "dense")
        if not order.startswith("random"):
            return graded("mmlu", 4, "kvcomm", order=order)
        index = int(order.removeprefix("random ")) - 1
        return {**shuffled, "seed": seeds[index] if index < len(seeds) else None}

    return fill(results, "4", where, _by_method, _paper_dense("mmlu"))


def table_5(results: Results) -> list[PaperTable]:
    """Return accuracy by alignment step."""

    def where(place: Place) -> Where:
        rotate, placeholder, text = _STEPS[str(place["steps"])]
        return graded("mmlu", 4, "kvcomm", rotate_keys=rotate, placeholder_offset=placeholder, text_offset=text)

    return fill(results, "5", where, _of_kvcomm, _paper_dense("mmlu"))


def table_6(results: Results) -> list[PaperTable]:
    """Return accuracy and reuse rate by gamma and by the maximum number of anchors in a pool."""

    def where(place: Place) -> Where:
        nothing_shared = 0 in place.values()
        return graded("gsm8k", 4, "dense") if nothing_shared else graded("gsm8k", 4, "kvcomm", **place)

    return fill(results, "6", where, _of_kvcomm, _paper_dense("gsm8k"))


def table_a2(results: Results) -> list[PaperTable]:
    """Return accuracy and reuse rate on harder mathematics."""
    return fill(results, "A.2", _own_cell, _by_method, _dense_beside("A.2"))


def table_a3(results: Results) -> list[PaperTable]:
    """Return accuracy and reuse rate by criterion."""

    def where(place: Place) -> Where:
        return graded("mmlu", 4, "kvcomm", criterion=place["criterion"])

    return fill(results, "A.3", where, _of_kvcomm, _paper_dense("mmlu"))


def table_a4(results: Results) -> list[PaperTable]:
    """Return accuracy and reuse rate by estimator."""

    def where(place: Place) -> Where:
        if place["method"] == "dense":
            return graded("humaneval", 4, "dense")
        return graded("humaneval", 4, "kvcomm", estimator=place["estimator"])

    return fill(results, "A.4", where, _by_method, _paper_dense("humaneval"))


def _own_cell(place: Place) -> Where:
    return graded(str(place["workload"]), int(place["agents"]), str(place["method"]))


def _by_method(place: Place) -> Mapping[str, Measure]:
    """Return the measures of a method: like the paper, count reuse in tokens for cacheblend, in turns for kvcomm."""
    return {"accuracy": accuracy, "reuse_rate": token_reuse if place["method"] == "cacheblend" else turn_reuse}


def _of_kvcomm(_: Place) -> Mapping[str, Measure]:
    return {"accuracy": accuracy, "reuse_rate": turn_reuse}


def _dense_beside(number: str) -> DenseOf:
    """Look up the dense cell of the same table."""
    printed = load_paper().tables[number]
    return lambda place: printed.value("accuracy", **{**place, "method": "dense"})


def _paper_dense(workload: str) -> DenseOf:
    """Look up table 1's dense arm with 4 agents, for tables of variants that print no dense arm."""
    return lambda _: load_paper().tables["1"].value("accuracy", workload=workload, method="dense", agents=4)
