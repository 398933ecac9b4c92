"""Verdicts on made-up results: what is decided, on which data, and what is said about the rest."""

import dataclasses
import io
import json

import pytest
from made_up import with_outcomes
from rich.console import Console

from analysis.claims.claims_view import print_verdicts
from analysis.claims.ledger import read_ledger
from analysis.claims.verdicts import judge
from analysis.results import Results
from harness.spec import TrialSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig

LEDGER = """
- id: held
  says: kvcomm keeps the answers
  source: Table 1
  sweep: table_1
  tasks: [gsm8k, recall]
  measure: accuracy
  test: noninferior
  margin: 3
  both: {agents: 2}
  ours: {method: kvcomm}
  theirs: {method: dense}
- id: reuse
  says: nine of ten turns reuse
  source: Table 1
  sweep: table_1
  tasks: [gsm8k, recall]
  measure: turn_reuse
  test: superior
  than: 90
  ours: {method: kvcomm, agents: 2}
- id: elsewhere
  says: nobody ran this
  source: Table A.2
  sweep: table_a2
  tasks: [aime]
  measure: accuracy
  test: superior
  both: {agents: 4}
  ours: {method: kvcomm}
  theirs: {method: dense}
"""


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.yaml"
    path.write_text(LEDGER)
    return read_ledger(path)


@pytest.fixture
def trials(make_result):
    """``trials(kvcomm, dense, workload=..., sha256=None, model="embedded", gamma=0.3)``: a trial of each method with
    these answers, and the hash of a ledger in their environment."""

    def make(ours, theirs, workload=None, sha256=None, model="embedded", gamma=0.3):
        workload = workload or RecallSpec(limit=len(ours))
        made = []
        for method, outcomes in (("kvcomm", ours), ("dense", theirs)):
            parameters = {"parameters": KVCommConfig(gamma=gamma)} if method == "kvcomm" else {}
            spec = TrialSpec(agents=2, method=method, workload=workload, model=model, **parameters)
            result = with_outcomes(make_result(spec, samples=len(outcomes)), outcomes)
            environment = json.dumps({"claims_sha256": sha256})
            made.append(dataclasses.replace(result, trial=dataclasses.replace(result.trial, env_json=environment)))
        return made

    return make


def by_claim(folder, ledger):
    return {verdict.claim: verdict for verdict in judge(Results(folder), ledger)}


def test_what_is_decided(write, trials, ledger):
    """Catches a claim decided by the sign alone, one decided the wrong way, and a cell that was not run."""
    found = by_claim(write(*trials("+" * 120, "+" * 120, sha256=ledger.sha256)), ledger)
    held, reuse, elsewhere = (found[name] for name in ("held", "reuse", "elsewhere"))
    assert (held.verdict, held.n, held.effect) == ("undecided", 120, 0.0)
    assert held.low < -3 < held.high
    assert held.needs.endswith("more items")
    assert (reuse.verdict, reuse.needs) == ("reproduced", None)
    assert reuse.effect == pytest.approx(100 * 119 / 120)
    assert (reuse.model, reuse.task, reuse.as_in_paper, reuse.ledger) == ("embedded", "recall", False, "before")
    assert (elsewhere.verdict, elsewhere.model, elsewhere.n) == ("undecided", None, None)
    assert elsewhere.needs == "kvcomm run sweeps/paper/table_a2.yaml, 100 items or more"
    enough = int(held.needs.split()[0])
    longer = by_claim(write(*trials("+" * (120 + enough), "+" * (120 + enough))), ledger)["held"]
    assert (longer.verdict, longer.n, longer.ledger) == ("reproduced", 120 + enough, "not shown")


def test_a_loss_contradicts(write, trials, ledger):
    """Catches a verdict that can only be good."""
    held = by_claim(write(*trials("+" * 80 + "-" * 20, "+" * 100)), ledger)["held"]
    assert (held.verdict, held.effect) == ("contradicted", -20.0)


def test_too_few_items_decide_nothing(write, trials, ledger):
    """Catches a verdict on 99 items, and one that takes part in the correction."""
    found = by_claim(write(*trials("-" * 99, "+" * 99)), ledger)
    assert {one.verdict for one in found.values()} == {"undecided"}
    assert found["held"].p_value < 0.001
    assert found["held"].p_adjusted is None
    assert found["held"].needs == "1 more items" or found["held"].needs.endswith("more items")


def test_only_its_own_cells_count(write, trials, ledger):
    """Catches trials with other parameters, and items of two workloads or models that are thrown together."""
    results = [
        *trials("-" * 110, "+" * 110, gamma=0.9),
        *trials("+-" * 52, "+-" * 52),
        *trials("+" * 130, "+" * 130, workload=Gsm8kSpec(limit=130), model="meta-llama/Llama-3.1-8B-Instruct"),
    ]
    held = [one for one in judge(Results(write(*results)), ledger) if one.claim == "held"]
    assert [(one.model.rpartition("/")[2], one.task, one.n, one.as_in_paper) for one in held] == [
        ("Llama-3.1-8B-Instruct", "gsm8k", 130, True),
        ("embedded", "recall", 104, False),
    ]
    assert {one.effect for one in held} == {0.0}


def test_the_papers_model_is_that_of_the_task(write, trials, ledger):
    """Catches a model of the paper's that it used for other questions, and a pinned commit taken for another model."""
    for name, known in (("Qwen/Qwen2.5-Coder-7B-Instruct", False), ("meta-llama/Llama-3.1-8B-Instruct@main", True)):
        made = trials("+" * 104, "+" * 104, workload=Gsm8kSpec(limit=104), model=name)
        verdicts = judge(Results(write(*made)), ledger)
        assert [one.as_in_paper for one in verdicts if one.claim == "held" and one.model == name] == [known]


def test_an_answer_counts_once(write, trials, make_result, ledger):
    """Catches items that count twice because a trial ran again with another share of checked turns."""
    results = trials("+" * 104, "+" * 104)
    spec = TrialSpec(agents=2, method="kvcomm", workload=RecallSpec(limit=104), parameters=KVCommConfig(), fidelity=0.5)
    again = with_outcomes(make_result(spec, samples=104), "+" * 104)
    held = by_claim(write(*results, again), ledger)["held"]
    assert (held.n, held.trial_ids) == (104, (again.trial.trial_id, results[1].trial.trial_id))


def test_many_claims_are_corrected(write, trials, tmp_path):
    """Catches p-values that do not know of each other: thirty copies of a claim that just passes alone."""
    one = LEDGER.split("- id: reuse")[0]
    results = Results(write(*trials("+" * 260 + "-" * 2, "+" * 262)))
    path = tmp_path / "many.yaml"
    verdicts = {}
    for copies in (1, 30):
        path.write_text("".join(one.replace("id: held", f"id: held-{index}") for index in range(copies)))
        [verdicts[copies], *_] = judge(results, read_ledger(path))
    assert verdicts[1].p_value == verdicts[30].p_value <= 0.05
    assert (verdicts[1].verdict, verdicts[30].verdict) == ("reproduced", "undecided")
    assert verdicts[30].p_adjusted == pytest.approx(min(1, 30 * verdicts[1].p_value))


def test_what_is_printed(write, trials, ledger):
    """Catches a page without the hash, and a verdict that does not say that the task is another."""
    verdicts = judge(Results(write(*trials("+" * 120, "+" * 120))), ledger)
    console = Console(file=io.StringIO(), width=200)
    print_verdicts(ledger, verdicts, console)
    printed = console.file.getvalue()
    assert f"3 claims, sha256 {ledger.sha256}" in printed
    assert "1 reproduced, 0 contradicted, 2 undecided" in printed
    assert "embedded, recall *" in printed
    assert "elsewhere: kvcomm run sweeps/paper/table_a2.yaml" in printed
