"""The tokens of a trial whose roles have lengths of their own, worked out by hand."""

from dataclasses import replace

from harness.agents import Role, Team
from harness.spec import TrialSpec
from harness.topology import Topology
from harness.workloads.recall import RecallSpec
from sweeps.plan.cost import cost_of

ROLES = tuple(Role(name, "S", "{user_question}\n{upstream}", None, length) for name, length in (("A", 10), ("B", 100)))
TEAM = Team(name="t", roles=ROLES, graph=Topology(((), (1,)), ((), ()), 2))


def test_an_answer_takes_in_a_prompt_what_its_own_role_may_say():
    """Catches the reader's length taken for that of the answers that it reads, and the trial's for that of a role."""
    trial = TrialSpec(team=TEAM, topology="team", agents=2, workload=RecallSpec(limit=5))
    items = trial.workload.load(0)
    cost = cost_of(trial, items, {})
    assert cost.output_tokens == 5 * (10 + 100)
    longer = replace(TEAM, roles=(replace(ROLES[0], max_new_tokens=30), ROLES[1]))
    assert cost_of(replace(trial, team=longer), items, {}).prompt_tokens == cost.prompt_tokens + 5 * 20
    shorter = replace(TEAM, roles=(ROLES[0], replace(ROLES[1], max_new_tokens=1)))
    assert cost_of(replace(trial, team=shorter), items, {}).prompt_tokens == cost.prompt_tokens
