"""The identity of a trial: golden values, by which years of results are found again."""

import json
import pickle
import re
from dataclasses import fields, replace
from typing import Any

import pytest

from harness.agents import Role, Team
from harness.identity import IDENTITY_VERSION
from harness.spec import TrialSpec
from harness.topology import Topology
from harness.workloads import built_in
from harness.workloads.aime import AimeSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.humaneval import HumanEvalSpec
from harness.workloads.judge import JudgeSpec
from harness.workloads.math500 import Math500Spec
from harness.workloads.mmlu import MmluSpec
from harness.workloads.own_questions import QuestionsSpec
from harness.workloads.probes import ContextsSpec, OffsetsSpec, ProximitySpec
from harness.workloads.recall import RecallSpec
from harness.workloads.trace import TraceSpec
from harness.workloads.ttft import TtftSpec

TEAM = Team(
    name="made up",
    roles=(Role("A", "S", "{user_question}"), Role("B", "S", "{user_question}\n{upstream}", None, 8)),
    graph=Topology(((), (1,)), ((), (2,)), 2),
)
QUESTIONS = QuestionsSpec(path="mine.jsonl", grader="number")

GOLDEN: dict[TrialSpec, str] = {
    TrialSpec(workload=RecallSpec()): "27a4cbddaa45",
    TrialSpec(workload=Gsm8kSpec()): "acc5cd9ce906",
    TrialSpec(workload=MmluSpec()): "b2f380ed76ab",
    TrialSpec(workload=HumanEvalSpec()): "817cc2ee975d",
    TrialSpec(workload=Math500Spec()): "8a89a97d0d7a",
    TrialSpec(workload=AimeSpec()): "83343571e072",
    TrialSpec(workload=JudgeSpec()): "474b3fc23da1",
    TrialSpec(workload=TtftSpec()): "fcf91af8ea9c",
    TrialSpec(method="kvcomm", workload=BlendSpec()): "7680b3f634f8",
    TrialSpec(workload=ContextsSpec()): "457779e1c77a",
    TrialSpec(workload=ProximitySpec()): "c31b0ddbd8e5",
    TrialSpec(workload=OffsetsSpec()): "aa79eb978c3f",
    TrialSpec(workload=TraceSpec(path="log.jsonl")): "4f930678a959",
    TrialSpec(workload=QUESTIONS, team=TEAM, topology="team", agents=2): "ee3c57919b72",
}


def test_identities_are_as_recorded() -> None:
    """Golden: catches a change after which earlier results are silently not found, or taken for other ones.

    If it is meant, raise ``IDENTITY_VERSION`` where a field changes its meaning, and record the new values.
    """
    assert {trial.trial_id for trial in GOLDEN} == set(GOLDEN.values())
    for trial, identity in GOLDEN.items():
        assert trial.trial_id == identity, trial.workload.name
    assert IDENTITY_VERSION == 3
    assert {type(trial.workload) for trial in GOLDEN} == set(built_in().values())


@pytest.mark.parametrize(
    "changed", [{"order": "random"}, {"order": "ascending"}, {"limit": 153}, {"path": "data/other.parquet"}]
)
def test_every_field_of_a_question_file_is_part_of_the_identity(changed: dict[str, Any]) -> None:
    """Catches a field that is left out of the canonical form, after which two experiments share one result."""
    trial = TrialSpec(workload=MmluSpec())
    assert replace(trial, workload=MmluSpec(**changed)).trial_id != trial.trial_id


def test_the_canonical_form_holds_every_field() -> None:
    """Catches an inherited field that asdict would pass over."""
    workload = TrialSpec(workload=MmluSpec()).to_dict()["workload"]
    assert set(workload) == {field.name for field in fields(MmluSpec)} == {"name", "limit", "path", "order", "lookup"}
    assert json.loads(json.dumps(workload)) == workload


def test_a_team_is_in_the_identity_by_its_content() -> None:
    """Catches an edited prompt whose old results are taken for new ones, and a name that makes new trials."""
    trial = TrialSpec(team=TEAM, topology="team", agents=2)
    assert replace(trial, team=replace(TEAM, name="other")).trial_id == trial.trial_id
    longer = replace(TEAM, roles=(TEAM.roles[0], replace(TEAM.roles[1], max_new_tokens=9)))
    assert replace(trial, team=longer).trial_id != trial.trial_id
    assert TrialSpec(agents=2).trial_id not in (trial.trial_id, replace(trial, team=longer).trial_id)


def test_the_record_of_a_team_explains_it() -> None:
    """Catches a record from which nobody can tell who was told what, and a team that does not reach a replica."""
    trial = TrialSpec(team=TEAM, topology="team", agents=2)
    assert pickle.loads(pickle.dumps(trial)) == trial
    record = trial.to_dict()["team"]
    assert json.loads(json.dumps(record))["roles"][1]["max_new_tokens"] == 8
    assert record["digest"] == TEAM.digest
    assert record["graph"]["upstream"] == ((), (1,))


@pytest.mark.parametrize(
    ("fields_", "message"),
    [
        ({"team": TEAM}, "topology is 'fully_connected'; allowed: team, since the team made up has edges of its own"),
        ({"team": TEAM, "topology": "team"}, "agents is 3; allowed: 2, the number of roles of the team made up"),
        ({"topology": "team"}, "topology is 'team'; allowed: fully_connected, chain"),
        ({"team": TEAM, "topology": "team", "agents": 2, "workload": TtftSpec()}, "team is 'made up'; allowed: null"),
        ({"workload": QUESTIONS}, "team is None; allowed: the path of a team file, with workload questions"),
        (
            {
                "team": replace(
                    TEAM, graph=None, alone="A", roles=(replace(TEAM.roles[0], tool="doctest"), TEAM.roles[1])
                )
            },
            "team is 'made up, whose A has it'; allowed: other tools than doctest, with workload recall",
        ),
    ],
)
def test_a_team_that_does_not_fit(fields_: dict[str, Any], message: str) -> None:
    """Catches a trial that would fail on its first turn, or run another team than its record says."""
    with pytest.raises(ValueError, match=re.escape(message)):
        TrialSpec(**fields_)
