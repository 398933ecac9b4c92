"""Editions of the built-in teams in a trial's identity and record."""

import json
from dataclasses import replace

import pytest

from harness.agents import built_in_teams, editions
from harness.agents.editions import FIRST_EDITION
from harness.cells import flatten, name_cells
from harness.spec import TrialSpec
from harness.workloads import find_workload

BEFORE = {
    "aime": "5df640978796",
    "gsm8k": "2e34f0f5b9ac",
    "humaneval": "2319f1d726d0",
    "math500": "1449ec1044f7",
    "mmlu": "b2f380ed76ab",
    "recall": "27a4cbddaa45",
}
"""Identities of trials of three agents, while all teams were the first edition."""


def trial(workload: str) -> TrialSpec:
    return TrialSpec(workload=find_workload(workload)(name=workload), agents=3)


@pytest.mark.parametrize("workload", BEFORE)
def test_prompts_of_the_first_edition_keep_their_identity(workload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches shipped results that are no longer found, and a digest in the record of what never had one."""
    monkeypatch.setitem(FIRST_EDITION, workload, built_in_teams()[workload].digest)
    assert trial(workload).trial_id == BEFORE[workload]
    assert "prompts" not in trial(workload).to_dict()
    assert trial(workload).team_label == workload


@pytest.mark.parametrize("workload", BEFORE)
def test_revised_prompts_make_new_trials(workload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches results of other prompts that pass for these."""
    monkeypatch.setitem(FIRST_EDITION, workload, "0" * 12)
    digest = built_in_teams()[workload].digest
    revised = trial(workload)
    assert revised.trial_id != BEFORE[workload]
    assert revised.to_dict()["prompts"] == digest
    assert revised.team_label == f"{workload}@{digest[:6]}"
    team = replace(built_in_teams()[workload], name="own")
    assert "prompts" not in replace(revised, team=team).to_dict(), "a team of the trial's own is in the record"


def test_the_teams_of_the_shipped_results_are_the_first_edition() -> None:
    """Catches an edit of prompts whose results ship in analysis/embedded, and would have to be made anew."""
    for workload in ("recall", "mmlu"):
        assert built_in_teams()[workload].digest == FIRST_EDITION[workload]


def test_cells_are_told_apart_by_prompts_where_one_workload_has_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches two editions in one cell, and a digest in every name where workloads merely have different teams."""
    monkeypatch.setattr(editions, "FIRST_EDITION", {})
    revised = [flatten(trial(workload).to_dict()) for workload in ("humaneval", "gsm8k")]
    assert [str(cell) for cell in name_cells(revised)] == ["humaneval, 3 agents, dense", "gsm8k, 3 agents, dense"]
    first = json.loads(json.dumps(trial("humaneval").to_dict()))
    del first["prompts"]
    digest = built_in_teams()["humaneval"].digest
    cells = name_cells([flatten(first), *revised])
    assert [str(cell) for cell in cells] == [
        "humaneval, 3 agents, dense",
        f"humaneval, 3 agents, dense, prompts={digest}",
        "gsm8k, 3 agents, dense",
    ]
