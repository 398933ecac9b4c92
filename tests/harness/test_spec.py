"""The identity of a trial: golden values, by which years of results are found again."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from harness.spec import IDENTITY_VERSION, TrialSpec
from harness.workloads import built_in
from harness.workloads.aime import AimeSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.gsm8k import Gsm8kSpec
from harness.workloads.humaneval import HumanEvalSpec
from harness.workloads.math500 import Math500Spec
from harness.workloads.mmlu import MmluSpec
from harness.workloads.probes import ContextsSpec, OffsetsSpec, ProximitySpec
from harness.workloads.recall import RecallSpec
from harness.workloads.trace import TraceSpec
from harness.workloads.ttft import TtftSpec

GOLDEN: dict[TrialSpec, str] = {
    TrialSpec(workload=RecallSpec()): "2f95c3c792a8",
    TrialSpec(workload=Gsm8kSpec()): "67baaeaa0fd4",
    TrialSpec(workload=MmluSpec()): "703409642c36",
    TrialSpec(workload=HumanEvalSpec()): "8b2cf1a018a2",
    TrialSpec(workload=Math500Spec()): "d84e814cecee",
    TrialSpec(workload=AimeSpec()): "0dc25d22dcae",
    TrialSpec(workload=TtftSpec()): "0a6d45fa3465",
    TrialSpec(method="kvcomm", workload=BlendSpec()): "7c73bb637b92",
    TrialSpec(workload=ContextsSpec()): "b127946f88a3",
    TrialSpec(workload=ProximitySpec()): "7309cdc8fb32",
    TrialSpec(workload=OffsetsSpec()): "ad6d53e84173",
    TrialSpec(workload=TraceSpec(path="log.jsonl")): "e427aee21b84",
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
