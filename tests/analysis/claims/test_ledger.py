"""The shipped ledger and how a ledger is read."""

import hashlib
import math
from functools import cache
from pathlib import Path

import pytest

from analysis.claims.claim_cells import matches, where_of
from analysis.claims.ledger import LedgerError, read_ledger
from harness.cells import flatten
from harness.environment import capture_environment
from sweeps.language.sweep_spec import load_sweep

ROOT = Path(__file__).parents[3]
LEDGER = read_ledger()

GOOD = """- id: a
  says: it is faster
  source: Table 2
  sweep: table_2
  tasks: [ttft]
  measure: speedup
  test: superior
  than: 2
  ours: {method: kvcomm}
"""


def test_trials_record_the_hash_of_the_file():
    """Catches a hash of something else than the file, which ``sha256sum`` could not check."""
    known = hashlib.sha256((ROOT / "analysis" / "claims.yaml").read_bytes()).hexdigest()
    assert LEDGER.sha256 == capture_environment().claims_sha256 == known


@cache
def specs_of(sweep):
    """The trials of a paper's sweep and of those that it takes from, as flat specs."""
    files = [load_sweep(ROOT / "sweeps" / "paper" / f"{sweep}.yaml", profile="paper")]
    files += [load_sweep(ROOT / "sweeps" / "paper" / f"{name}.yaml", profile="paper") for name in files[0].take_from]
    return [flatten(trial.to_dict()) for file in files for trial in file.trials]


@pytest.mark.parametrize("claim", LEDGER.claims, ids=lambda claim: claim.id)
def test_a_sweep_of_the_paper_decides_it(claim):
    """Catches a claim whose cells no trial of the sweep it names, or of those that it takes from, can fill."""
    task = claim.tasks[0]
    for cell in claim.cells:
        assert any(matches(spec, where_of(cell, task)) for spec in specs_of(claim.sweep)), (
            f"nothing runs {cell} on {task}"
        )


@pytest.mark.parametrize("claim", LEDGER.claims, ids=lambda claim: claim.id)
def test_that_sweep_is_large_enough(claim):
    """Catches a claim that no run of its sweep can decide, for want of items or repeats."""
    task = claim.tasks[0]
    for cell in claim.cells:
        workloads = [spec for spec in specs_of(claim.sweep) if matches(spec, where_of(cell, task))]
        sizes = [spec.get("workload.limit") or spec.get("workload.repeats") or math.inf for spec in workloads]
        assert max(sizes) >= claim.least_n


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  than: 2\n", "  than: two\n", "claim 'a': than is 'two'; allowed: "),
        ("  than: 2\n", "  then: 2\n", "claim 'a': then is no field of a claim; allowed: id, says"),
        ("  than: 2\n", "", "the other side is 'none'; allowed: one of theirs, than, with test superior"),
        ("  says: it is faster\n", "", "claim 'a': says is missing"),
        ("measure: speedup", "measure: speed", "measure is 'speed'; allowed: accuracy, turn_reuse"),
        ("test: superior", "test: better", "claim 'a': test is 'better'; allowed: "),
        ("test: superior", "test: noninferior", "margin is 0.0; allowed: above 0"),
        ("ours: {method: kvcomm}", "ours: {method: kvcomm, kvcomm.gama: 1}", "ours.kvcomm.gama is 'no field"),
        ("ours: {method: kvcomm}", "ours: {method: kvcomm, workload.prefix: 1}", "ours.workload.prefix is"),
        ("ours: {method: kvcomm}", "ours: {agents: 3}", "method is None; allowed: in every cell, dense"),
        ("ours: {method: kvcomm}", "ours: {method: kv}", "method is 'kv'; allowed: in every cell, dense"),
        ("ours: {method: kvcomm}", "ours: {method: kvcomm, agent: last}", "agent is 'last'; allowed: 1 or more"),
        ("tasks: [ttft]", "tasks: [tft]", "tasks is 'tft'"),
        ("  sweep: table_2\n", "  sweep: table_2\n  sweep: table_3\n", "key 'sweep' is given twice"),
        (GOOD, GOOD + GOOD, "id is 'a' twice"),
        (GOOD, "claims: 3", "allowed: a list of claims"),
        (GOOD, "[", "not YAML"),
    ],
)
def test_mistakes_are_one_line(tmp_path, old, new, said):
    """Catches a misspelt field that would silently test something else."""
    path = tmp_path / "ledger.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(LedgerError) as error:
        read_ledger(path)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_unreadable_files(tmp_path):
    """Catches a traceback for a missing file."""
    with pytest.raises(LedgerError, match="cannot be read"):
        read_ledger(tmp_path / "none.yaml")
