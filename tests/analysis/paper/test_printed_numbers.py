"""The paper's numbers: all of its tables and figures are there, and the numbers agree with each other.

What can be checked without the paper at hand is checked: a typing error would break one of these.
"""

import re
from dataclasses import replace
from statistics import mean

import pytest
from pydantic import TypeAdapter, ValidationError

from analysis.paper import PAPER_TABLES
from analysis.paper.printed_numbers import Series, load_paper
from harness.spec import TrialSpec

PAPER = load_paper()
CELLS = {"1": 36, "2": 6, "3": 20, "4": 5, "5": 7, "6": 12, "A.2": 18, "A.3": 2, "A.4": 4, "A.5": 15, "A.6": 2}


def test_every_table_and_figure_is_there():
    """Catches a table without data, data without a function, and cells that went missing."""
    assert {number: len(list(table.cells())) for number, table in PAPER.tables.items()} == CELLS
    assert list(PAPER.tables) == list(PAPER_TABLES)
    assert list(PAPER.figures) == ["1", "4", "A.1", "A.3", "A.4 to A.11", "A.12"]
    for name in PAPER_TABLES:
        assert PAPER_TABLES[name].__name__ == f"table_{name.lower().replace('.', '')}"


def test_numbers_have_units_and_are_possible():
    """Catches a share given as 0.8, a percentage above 100, and a metric without a unit."""
    for table in PAPER.tables.values():
        assert set(table.units.values()) <= {"%", "ms", "x", "GB"}
        assert {metric for series in table.series for metric in series.values} == set(table.units)
        for _, numbers in table.cells():
            for metric, value in numbers.items():
                assert value is None or value > 0
                if table.units[metric] == "%" and value is not None:
                    assert 5 < value <= 100


def test_percentages_are_whole_numbers_of_samples():
    """Catches a wrong digit: 67.9 % of 153 questions does not exist. gsm8k has too many samples for this test."""
    checked = 0
    for table in PAPER.tables.values():
        for place, numbers in table.cells():
            workload = place.get("workload", next(iter(table.models)))
            accuracy, n = numbers.get("accuracy"), PAPER.setup.samples.get(workload)
            if accuracy is None or workload == "gsm8k":
                continue
            assert any(round(100 * k / n, 1) == round(accuracy, 1) for k in range(n + 1)), (place, accuracy)
            checked += 1
    assert checked == 24 + 5 + 5 + 18 + 2 + 4 + 2


def test_table_2_adds_up():
    """Catches a part that does not belong: speedup = dense / sum of the parts, in the digits printed; and a sum over
    the agents, which is not printed, that is not their sum."""
    whole = PAPER.tables["2"]
    for metric in ("dense", "alignment", "first_forward", "other"):
        agents = [whole.value(metric, agent=agent) for agent in range(1, 6)]
        assert whole.value(metric, agent="all") == pytest.approx(sum(agents))
    for place, numbers in PAPER.tables["2"].cells():
        parts = sum(numbers[part] for part in ("alignment", "first_forward", "other"))
        assert round(numbers["dense"] / parts, 2) == pytest.approx(numbers["speedup"], abs=0.011), place


def test_tables_agree_where_they_meet():
    """Catches numbers in the wrong row: the default configuration stands in several tables."""
    tables = PAPER.tables
    mmlu, gsm8k, humaneval = (
        {
            "accuracy": tables["1"].value("accuracy", workload=workload, method="kvcomm", agents=4),
            "reuse_rate": tables["1"].value("reuse_rate", workload=workload, method="kvcomm", agents=4),
        }
        for workload in ("mmlu", "gsm8k", "humaneval")
    )
    assert mmlu["accuracy"] == tables["4"].value("accuracy", method="kvcomm", order="random 1")
    assert mmlu["accuracy"] == tables["5"].value("accuracy", steps="all")
    assert mmlu == dict(list(tables["A.3"].cells())[1][1])
    for place in ({"gamma": 0.3}, {"max_anchors": 20}):
        assert gsm8k == {metric: tables["6"].value(metric, **place) for metric in gsm8k}
    l2_norm = {metric: tables["A.4"].value(metric, method="kvcomm", estimator="l2_norm") for metric in humaneval}
    assert {metric: round(value, 1) for metric, value in l2_norm.items()} == humaneval
    dense = tables["1"].value("accuracy", workload="gsm8k", method="dense", agents=4)
    assert dense == tables["6"].value("accuracy", gamma=0) == tables["6"].value("accuracy", max_anchors=0)
    first_three = mean(tables["2"].value("speedup", agent=agent) for agent in (1, 2, 3))
    assert first_three == pytest.approx(tables["3"].value("speedup", output_tokens=512, prefix_tokens=512), abs=0.02)


def test_values_that_are_not_printed():
    """Catches 0 for a number that the paper does not have, and a misspelt cell that passes for one."""
    table = PAPER.tables["1"]
    assert table.value("reuse_rate", workload="mmlu", method="dense", agents=2) is None
    assert PAPER.tables["5"].value("accuracy", steps="placeholder + text") is None
    assert PAPER.tables["6"].value("reuse_rate", gamma=0) is None
    with pytest.raises(KeyError, match="metric is acuracy; allowed: accuracy, reuse_rate"):
        table.value("acuracy", workload="mmlu", method="dense", agents=2)
    with pytest.raises(KeyError, match="no cell at"):
        table.value("accuracy", workload="mmlu", method="dense", agents=6)


def test_the_setup_is_our_default():
    """Catches parameters of the paper's that drift from the defaults by which its cells are found."""
    spec = TrialSpec(method="kvcomm")
    setup = PAPER.setup
    assert (spec.parameters.gamma, spec.parameters.max_anchors, spec.parameters.window) == (0.3, 20, 5)
    assert (setup.gamma, setup.max_anchors, setup.window) == (0.3, 20, 5)
    assert (setup.topology, setup.rounds) == (spec.topology, spec.rounds)
    for table in PAPER.tables.values():
        assert all(re.fullmatch(r"[\w-]+/[\w.-]+", name) for name in PAPER.models_of(table))


def test_a_malformed_file_is_refused():
    """Catches a number too few, an unknown field and a metric without unit, which would shift or drop a cell."""
    series = {"at": {}, "over": {"agents": [2, 3]}, "values": {"accuracy": [1.0, 2.0]}}
    adapter = TypeAdapter(Series)
    adapter.validate_python(series)
    for broken in (
        {**series, "values": {"accuracy": [1.0]}},
        {**series, "over": {"agents": [2, 3], "gamma": [1]}},
        {**series, "note": "?"},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(broken)
    with pytest.raises(ValueError, match="values has accuracy; allowed: speedup"):
        replace(PAPER.tables["1"], units={"speedup": "x"})
