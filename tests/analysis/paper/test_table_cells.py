"""Which trials stand in which cell of the paper, told by their specs and not by their sweeps' names."""

import dataclasses
import json

import pytest

from analysis.paper import PAPER_TABLES
from analysis.paper.printed_numbers import load_paper
from analysis.results import Results
from harness.spec import TrialSpec
from harness.workloads.aime import AimeSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.humaneval import HumanEvalSpec
from harness.workloads.math500 import Math500Spec
from harness.workloads.mmlu import MmluSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig, MethodConfig

WORKLOADS = {spec().name: spec for spec in (AimeSpec, Gsm8kSpec, HumanEvalSpec, Math500Spec, MmluSpec)}
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.fixture
def trial(make_result):
    """``trial(workload, agents=4, method="kvcomm", order="file", sweep="s", **parameters)``: a made-up result."""

    def make(name, *, agents=4, method="kvcomm", order="file", sweep="s", status="ok", fields=None, **parameters):
        spec = TrialSpec(
            agents=agents,
            method=method,
            parameters=KVCommConfig(**parameters) if method == "kvcomm" else MethodConfig(),
            workload=WORKLOADS[name](limit=2, order=order),
            **(fields or {}),
        )
        return make_result(spec, sweep=sweep, status=status)

    return make


def filled(table) -> list[dict]:
    """The places that have a number of ours."""
    return [row.place for row in table.rows if row.ours is not None]


@pytest.mark.parametrize("number", PAPER_TABLES)
def test_every_cell_is_there_without_results(number, write, make_result):
    """Catches a cell that vanishes because it was not run, and a workload that counts for another."""
    (table,) = PAPER_TABLES[number](Results(write(make_result(TrialSpec(agents=7)))))
    printed = load_paper().tables[number]
    expected = [(place, metric, value) for place, numbers in printed.cells() for metric, value in numbers.items()]
    assert [(row.place, row.metric, row.paper) for row in table.rows] == expected
    assert {(row.ours, row.gap, row.difference) for row in table.rows} == {(None, "not run", None)}
    assert (table.model, table.measured) == (None, False)


VARIANTS = {
    "4": [
        ({"name": "mmlu", "order": "ascending"}, {"method": "kvcomm", "order": "ascending"}),
        ({"name": "mmlu", "order": "descending"}, {"method": "kvcomm", "order": "descending"}),
        ({"name": "mmlu", "order": "random"}, {"method": "kvcomm", "order": "random 1"}),
        ({"name": "mmlu", "method": "dense"}, {"method": "dense", "order": "any"}),
        ({"name": "mmlu"}, None),
    ],
    "5": [
        ({"name": "mmlu"}, {"steps": "all"}),
        ({"name": "mmlu", "placeholder_offset": False, "text_offset": False}, {"steps": "rotation"}),
        ({"name": "mmlu", "rotate_keys": False, "text_offset": False}, {"steps": "placeholder"}),
        ({"name": "mmlu", "rotate_keys": False, "placeholder_offset": False}, {"steps": "text"}),
        ({"name": "mmlu", "text_offset": False}, {"steps": "rotation + placeholder"}),
        ({"name": "mmlu", "placeholder_offset": False}, {"steps": "rotation + text"}),
        ({"name": "mmlu", "rotate_keys": False}, {"steps": "placeholder + text"}),
        ({"name": "mmlu", "order": "ascending"}, None),
        ({"name": "gsm8k"}, None),
    ],
    "6": [
        ({"name": "gsm8k", "gamma": 0.1}, {"gamma": 0.1}),
        ({"name": "gsm8k", "max_anchors": 5}, {"max_anchors": 5}),
        ({"name": "gsm8k", "gamma": 0.1, "max_anchors": 5}, None),
        ({"name": "gsm8k", "gamma": 0.2}, None),
    ],
    "A.3": [
        ({"name": "mmlu", "criterion": "length"}, {"criterion": "length"}),
        ({"name": "mmlu"}, {"criterion": "entropy_fitted"}),
        ({"name": "mmlu", "criterion": "always"}, None),
        ({"name": "mmlu", "fields": {"rounds": 2}}, None),
    ],
    "A.4": [
        ({"name": "humaneval", "estimator": "nearest"}, {"method": "kvcomm", "estimator": "nearest"}),
        ({"name": "humaneval"}, {"method": "kvcomm", "estimator": "l2_norm"}),
        ({"name": "humaneval", "method": "dense"}, {"method": "dense", "estimator": "none"}),
        ({"name": "humaneval", "estimator": "mean"}, None),
    ],
    "A.6": [
        ({"name": "mmlu", "placement": "host"}, {"agents": 4}),
        ({"name": "mmlu"}, None),
    ],
    "1": [
        ({"name": "mmlu", "agents": 2}, {"workload": "mmlu", "method": "kvcomm", "agents": 2}),
        ({"name": "mmlu", "storage": "int8"}, None),
        ({"name": "mmlu", "top_k": 3}, None),
        ({"name": "mmlu", "agents": 6}, None),
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "trial_of", "place"),
    [(number, trial_of, place) for number, variants in VARIANTS.items() for trial_of, place in variants],
)
def test_a_trial_is_in_its_cell_and_in_no_other(number, trial_of, place, write, trial):
    """Catches a variant that stands for the paper's method, switches mixed up, and a cell that is never found."""
    (table,) = PAPER_TABLES[number](Results(write(trial(**trial_of))))
    assert all(found == place for found in filled(table))
    assert bool(filled(table)) == (place is not None)


def test_recall_stands_in(write, make_result):
    """Catches a stand-in that passes for the paper's questions, one that is beside every workload of a table, and its
    accuracy set against the paper's; changes and reuse are compared."""
    dense = TrialSpec(agents=2)
    results = write(make_result(dense), make_result(dataclasses.replace(dense, method="kvcomm")))
    paper, stand_in = PAPER_TABLES["1"](Results(results))
    assert (paper.measured, paper.stand_in_for) == (False, None)
    assert (stand_in.model, stand_in.stand_in_for) == ("embedded", "mmlu")
    assert {row.place["workload"] for row in stand_in.rows} == {"recall"}
    ours = {(row.place["method"], row.metric): row for row in stand_in.rows if row.ours}
    assert set(ours) == {("dense", "accuracy"), ("kvcomm", "accuracy"), ("kvcomm", "reuse_rate")}
    accuracy, reuse = ours["kvcomm", "accuracy"], ours["kvcomm", "reuse_rate"]
    assert (accuracy.paper, accuracy.difference, accuracy.ours.value) == (64.7, None, 50.0)
    assert accuracy.change.paper == pytest.approx(64.7 - 47.1)
    assert accuracy.change.ours.value == 0
    assert reuse.difference == pytest.approx(50.0 - 74.5)


def test_harder_stories_stand_in_for_harder_mathematics(write, make_result):
    """Catches the stories of table 1 beside table A.2, and the other way round."""
    easy, hard = (TrialSpec(agents=2, workload=RecallSpec(facts=facts)) for facts in (3, 5))
    for spec, in_a2 in ((easy, False), (hard, True)):
        records = Results(write(make_result(spec, sweep=f"facts-{in_a2}")) / f"facts-{in_a2}")
        assert [table.stand_in_for for table in PAPER_TABLES["A.2"](records)] == [None, *(["math500"] if in_a2 else [])]
        assert len(PAPER_TABLES["1"](records)) == (1 if in_a2 else 2)


def test_default_and_dense_stand_in_both_halves_of_table_6(write, trial):
    """Catches the shared cell counted for one axis only."""
    (table,) = PAPER_TABLES["6"](Results(write(trial("gsm8k"), trial("gsm8k", method="dense"))))
    places = [row.place for row in table.rows if row.ours and row.metric == "accuracy"]
    assert places == [{"gamma": 0}, {"gamma": 0.3}, {"max_anchors": 0}, {"max_anchors": 20}]


def test_seeds_of_a_random_order_are_the_papers_two(write, trial):
    """Catches two orders averaged into one cell."""
    results = [trial("mmlu", order="random", fields={"seed": seed}) for seed in (7, 3)]
    (table,) = PAPER_TABLES["4"](Results(write(*results)))
    first, second = [row for row in table.rows if row.ours]
    assert (first.place["order"], first.trial_ids) == ("random 1", (results[1].trial.trial_id,))
    assert (second.place["order"], second.trial_ids) == ("random 2", (results[0].trial.trial_id,))


def test_dense_trials_of_other_seeds_are_left_out(write, trial):
    """Catches a dense row over items that no method answered, such as those of table 4's second order: its accuracy
    beside theirs would look like an effect of the method. Without any method, dense shows what it has."""
    seeds = [trial("mmlu", method="dense", fields={"seed": seed}) for seed in (0, 1)]
    (alone,) = PAPER_TABLES["1"](Results(write(*seeds)))
    (dense,) = [row for row in alone.rows if row.ours]
    assert set(dense.trial_ids) == {result.trial.trial_id for result in seeds}
    (table,) = PAPER_TABLES["1"](Results(write(trial("mmlu"))))
    (dense,) = [row for row in table.rows if row.ours and row.place["method"] == "dense"]
    assert dense.trial_ids == (seeds[0].trial.trial_id,)


def test_a_trial_of_two_sweeps_counts_once(write, trial):
    """Catches n doubled because two sweeps share a cell."""
    results = write(trial("mmlu", sweep="table_1"), trial("mmlu", sweep="table_5"))
    write(trial("mmlu", sweep="broken", status="oom"))
    (table,) = PAPER_TABLES["A.3"](Results(results))
    (row,) = [row for row in table.rows if row.ours and row.metric == "accuracy"]
    assert row.ours.n == 2
    assert len(row.trial_ids) == 1


def test_other_settings_are_other_rows(write, trial):
    """Catches answers of 9 and of 64 tokens counted as one cell, and settings that are shared named in every row."""
    (table,) = PAPER_TABLES["A.3"](
        Results(write(*(trial("mmlu", fields={"max_new_tokens": limit}) for limit in (9, 64))))
    )
    rows = [row for row in table.rows if row.ours and row.metric == "accuracy"]
    assert [row.settings for row in rows] == ["max_new_tokens=64", "max_new_tokens=9"]
    assert table.common["dtype"] == "auto"
    assert "max_new_tokens" not in table.common


def test_models_have_tables_of_their_own(write, trial):
    """Catches two models in one cell."""
    results = [trial("mmlu", fields={"model": model}) for model in ("embedded", LLAMA)]
    tables = PAPER_TABLES["A.3"](Results(write(*results)))
    assert [(table.model, len(filled(table))) for table in tables] == [("embedded", 2), (LLAMA, 2)]


def test_one_of_the_papers_models_stands_beside_itself(write, trial):
    """Catches Llama's accuracy set against the numbers of another model that the paper prints too."""
    (theirs,) = PAPER_TABLES["A.2"](Results(write(trial("math500", fields={"model": LLAMA}))))
    assert {place["model"] for place in filled(theirs)} == {"llama"}
    results = write(trial("math500"), trial("aime", fields={"model": LLAMA}))
    by_model = {table.model: table for table in PAPER_TABLES["A.2"](Results(results))}
    assert {place["model"] for place in filled(by_model["embedded"])} == {"llama", "deepseek_qwen"}
    assert {"aime", "math500"} == {place["workload"] for place in filled(by_model[LLAMA])}


def test_a_failed_trial_is_not_a_gap_like_any_other(write, trial):
    """Catches `not run` for a cell that ran out of memory."""
    (table,) = PAPER_TABLES["A.3"](Results(write(trial("mmlu", status="oom"))))
    assert [row.gap for row in table.rows] == ["not run", "not run", "failed: oom", "failed: oom"]
    assert table.model == "embedded"


def test_a_record_older_than_a_field(write, trial):
    """Catches results that vanish from the tables when a parameter is added to the method."""
    result = trial("mmlu")
    spec = json.loads(result.trial.spec_json)
    del spec["kvcomm"]["placement"], spec["workload"]["order"]
    older = dataclasses.replace(result.trial, spec_json=json.dumps(spec))
    (table,) = PAPER_TABLES["A.3"](Results(write(dataclasses.replace(result, trial=older))))
    assert filled(table)
