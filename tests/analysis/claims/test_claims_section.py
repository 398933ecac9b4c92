"""The claims on the report's page."""

import dataclasses
import json

import pytest
from made_up import with_outcomes

from analysis.claims.claims_section import claims_section
from analysis.claims.ledger import read_ledger
from analysis.claims.verdicts import judge
from analysis.report.failures import Planned
from analysis.report.page import render_report
from analysis.results import Results
from harness.spec import TrialSpec
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig


@pytest.fixture
def folder(write, make_result):
    """120 items of recall by four agents, which the ledger's claims on table 1 may be tested on."""
    results = []
    for method, parameters in (("kvcomm", {"parameters": KVCommConfig()}), ("dense", {})):
        spec = TrialSpec(agents=4, method=method, workload=RecallSpec(limit=120), **parameters)
        result = with_outcomes(make_result(spec, samples=120), "+" * 120)
        environment = json.dumps({"claims_sha256": read_ledger(None).sha256})
        results.append(dataclasses.replace(result, trial=dataclasses.replace(result.trial, env_json=environment)))
    return write(*results)


def test_every_claim_is_there_once(folder):
    """Catches claims that the page forgets, counts that do not match the rows, and a verdict that differs from what
    ``kvcomm claims`` says."""
    ledger = read_ledger(None)
    section = claims_section(Results(folder))
    shown = [one.verdict for one in section.judged]
    verdicts = judge(Results(folder), ledger)
    assert sorted(map(str, [*shown, *section.not_run])) == sorted(map(str, verdicts))
    assert section.judged, "these results are about some claims"
    assert {one.claim for one in [*shown, *section.not_run]} == {claim.id for claim in ledger.claims}
    assert sum(count for _, count in section.counts) == len(shown)
    assert section.n_unlike == len(shown), "recall is not the paper's task"
    decided = [one.verdict != "undecided" for one in shown]
    assert decided == sorted(decided, reverse=True), "decided claims come first"


@pytest.mark.slow
def test_the_page_shows_them(folder):
    """Catches a section that is not on the page, a verdict without the warning that another task was run, and a claim
    without what would decide it."""
    html = render_report(folder, {"s": Planned({}, "there is no sweep file")})
    section = html[html.index('<section id="claims">') :].partition("</section>")[0]
    assert '<a href="#claims">Claims</a>' in html
    assert "of another model or task than the paper" in section
    assert read_ledger(None).sha256 in section
    for one in claims_section(Results(folder)).judged:
        assert f"<strong>{one.verdict.verdict}</strong>" in section
        assert f"{one.verdict.model}, {one.verdict.task} *" in section
        assert (f"It would take {one.verdict.needs}" in section) == (one.verdict.needs is not None)


@pytest.mark.slow
def test_results_without_claims_say_so(write, make_result):
    """Catches a page that fails, or shows an empty table, where nothing is about a claim."""
    results = write(make_result(TrialSpec(agents=2, workload=RecallSpec(limit=2))))
    assert claims_section(Results(results)) is None
    html = render_report(results, {"s": Planned({}, "there is no sweep file")})
    assert "No trial here is about a claim of the ledger." in html
