"""Tables that are read when they are first used, and the rows that count."""

import dataclasses
import shutil

import pytest
from made_up import with_fidelity

from analysis.figures.accuracy_ttft import accuracy_ttft
from analysis.figures.figure_a3 import figure_a3
from analysis.figures.parts.drawing import NothingToDrawError
from analysis.figures.saving import save_figures
from analysis.results import Results, cells_of
from analysis.tables.show import make_tables
from harness.results.arrow_schemas import SCHEMAS
from harness.results.measurements import AnchorRecord, ProbeRecord
from harness.results.parquet_files import StoreError
from harness.results.sweep_folder import read_records
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from kvcomm_core.config import KVCommConfig

DENSE = TrialSpec(agents=2)
KVCOMM = TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig())
ROWS = [table for table in SCHEMAS if table != "trials"]


@pytest.fixture
def measured(make_result):
    """``measured(attempt, sweep)``: a kvcomm result with rows in every table that its kind has."""

    def make(attempt=1, sweep="s"):
        result = with_fidelity(make_result(KVCOMM, samples=3, attempt=attempt, sweep=sweep), lambda turn: 0.1)
        anchor = AnchorRecord(
            trial_id=KVCOMM.trial_id, attempt=attempt, placeholder="user_question", shard=0, age_rank=0, tokens=9,
            readers="1", activations=2, weight=0.5,
        )  # fmt: skip
        trial = dataclasses.replace(result.trial, anchors_at_end=1)
        return dataclasses.replace(result, trial=trial, anchors=[anchor])

    return make


@pytest.fixture
def read(monkeypatch):
    """The tables that were read, in order, once for each sweep."""
    tables = []

    def note(folder, table, attempts, **options):
        tables.append(table)
        return read_records(folder, table, attempts, **options)

    monkeypatch.setattr("analysis.results.read_records", note)
    return tables


def test_the_criterion_of_earlier_results_has_todays_name(write, make_result):
    """Catches shipped cells that are found under their former name, or not at all: the two must be one cell."""
    renamed = make_result(KVCOMM, sweep="s")
    text = renamed.trial.spec_json.replace("entropy_fitted", "entropy_paper")
    assert text != renamed.trial.spec_json
    former = dataclasses.replace(renamed, trial=dataclasses.replace(renamed.trial, spec_json=text, sweep="t"))
    trials = Results(write(renamed, former)).trials
    assert list(trials["spec_json"]) == [renamed.trial.spec_json] * 2
    assert [cell.method for cell in cells_of(trials)] == ["kvcomm"] * 2


def test_only_what_is_used_is_read(write, make_result, measured, read):
    """Catches a figure of turns alone that opens the anchors, a table read twice, and a view that reads at once."""
    results = Results(write(make_result(DENSE), measured()))
    view = results.each_trial_once().of_sweep("s").from_sample(0)
    assert (view.sweeps, read) == (["s"], [])
    for own in (results, view):
        accuracy_ttft(own)
    assert sorted(read) == ["samples", "turns"]
    (_,) = figure_a3(view)
    make_tables(results)
    assert sorted(read) == ["anchors", "samples", "turns"]


def test_damage_ends_only_what_needs_the_table(write, measured, tmp_path):
    """Catches a damaged file that stops what does not read it, one passed over, and figures written before it is
    found."""
    folder = write(measured())
    (file,) = (folder / "s" / "anchors").glob("*.parquet")
    file.write_bytes(b"no Parquet")
    results = Results(folder)
    make_tables(results)
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        save_figures(results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ROWS)
def test_rows_of_the_attempt_that_counts(write, make_result, measured, table):
    """Catches rows of a repeated attempt, of a trial that failed, or of another sweep than the one asked for."""
    blend = TrialSpec(workload=BlendSpec(), method="kvcomm", parameters=KVCommConfig())
    probe = ProbeRecord(trial_id=blend.trial_id, attempt=1, repeat=0, step="blend", seconds=0.1, bytes_read=1)
    timed = dataclasses.replace(make_result(blend), turns=[], samples=[], probes=[probe])
    failed = make_result(DENSE, status="error")
    results = Results(write(measured(1), measured(2), timed, failed, measured(1, "other")))
    rows = getattr(results, table)
    assert set(zip(rows["sweep"], rows["trial_id"], rows["attempt"], strict=True)) == {
        "probes": {("s", blend.trial_id, 1)}, "kv_statistics": set(),
    }.get(table, {("s", KVCOMM.trial_id, 2), ("other", KVCOMM.trial_id, 1)})  # fmt: skip
    of_other = getattr(results.of_sweep("other"), table)
    assert len(of_other) == sum(rows["sweep"] == "other")
    once = getattr(results.each_trial_once(), table)
    assert once["sweep"].nunique() == min(1, len(rows))
    later = getattr(results.from_sample(1), table)
    narrowed = table in ("turns", "samples", "fidelity")
    assert len(later) == (sum(rows["sample_index"] >= 1) if narrowed else len(rows))
    with pytest.raises(ValueError, match="3; allowed: 0 to 2"):
        results.of_sweep("other").from_sample(3)


def test_no_results(tmp_path, write, make_result):
    """Catches an empty folder that passes for results, and a sweep's folder that is not read as one."""
    with pytest.raises(StoreError, match="holds no results"):
        Results(tmp_path)
    folder = write(make_result(DENSE), make_result(DENSE, sweep="other"))
    shutil.rmtree(folder / "s" / "turns")
    assert Results(folder / "other").sweeps == ["other"]
    with pytest.raises(NothingToDrawError):
        figure_a3(Results(folder / "other"))
