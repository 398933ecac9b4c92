"""The sweep files of the paper's tables: each has a trial for every cell, and can be planned on any machine."""

from pathlib import Path

import pytest

import sweeps
from analysis.paper import PAPER_TABLES
from analysis.paper.printed_numbers import load_paper
from analysis.results import Results
from harness.results.results_writer import ResultsWriter
from sweeps.language.sweep_spec import load_sweep
from sweeps.plan.planning import make_plan

FOLDER = Path(sweeps.__file__).parent / "paper"
FILES = {number: FOLDER / f"table_{number.replace('.', '').lower()}.yaml" for number in PAPER_TABLES}


def test_every_table_has_a_file_and_every_file_a_table():
    """Catches a table that nobody can run, and a file that fills none."""
    assert sorted(FOLDER.glob("table_*.yaml")) == sorted(FILES.values())


def tables(number, profile, tmp_path, make_result):
    """The sweep of the paper's table, and the table with made-up results of every trial."""
    sweep = load_sweep(FILES[number], profile=profile)
    assert sweep.name == FILES[number].stem
    writer = ResultsWriter(tmp_path, sweep.name)
    for spec in sweep.trials:
        writer.write(make_result(spec, sweep=sweep.name))
    writer.close()
    return sweep, PAPER_TABLES[number](Results(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("number", FILES)
def test_profile_paper_has_every_cell(number, tmp_path, make_result):
    """Catches a file that leaves out a cell of its table, or runs it with other parameters, models or samples."""
    sweep, found = tables(number, "paper", tmp_path, make_result)
    places = {tuple(row.place.items()) for table in found for row in table.rows if row.trial_ids}
    assert places == {tuple(place.items()) for place, _ in load_paper().tables[number].cells()}
    paper = load_paper()
    for spec in sweep.trials:
        if spec.workload.timing:
            continue
        assert spec.max_new_tokens == paper.setup.max_new_tokens
        assert spec.workload.limit == paper.setup.samples[spec.workload.name]
        assert spec.model in [paper.setup.models[name] for name in paper.tables[number].models[spec.workload.name]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [number for number in FILES if number not in ("2", "3", "A.5")])
def test_profile_embedded_stands_in_for_every_cell_of_a_workload(number, tmp_path, make_result):
    """Catches a reduced file whose trials are in no cell, and dense arms missing for the changes."""
    _, (_, stand_in) = tables(number, "embedded", tmp_path, make_result)
    assert stand_in.model == "embedded"
    assert all(row.trial_ids for row in stand_in.rows)
    assert all(row.change.ours is not None for row in stand_in.rows if row.change is not None)


@pytest.mark.parametrize("number", FILES)
def test_profile_embedded_needs_nothing(number, tmp_path):
    """Catches a reduced file that wants data, the Hub or a model that is not at hand."""
    plan = make_plan(load_sweep(FILES[number], profile="embedded"), tmp_path)
    assert plan.left_out == ()
    assert len(plan.pending) == len(plan.sweep.trials)
    assert {spec.model for spec in plan.pending} == {"embedded"}
