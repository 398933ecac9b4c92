"""Names of cells: what differs, where it applies, and nothing else."""

from harness.cells import Cell, flatten, name_cells
from harness.spec import TrialSpec
from harness.workloads import gsm8k, recall
from kvcomm_core.config import KVCommConfig


def names(*specs):
    return name_cells([flatten(spec.to_dict()) for spec in specs])


def test_flatten():
    """Catches nested fields lost, or lists that MLflow and tables cannot take."""
    spec = {"a": 1, "b": {"c": None, "d": {"e": [1, 2]}}}
    flat = {"a": 1, "b.c": None, "b.d.e": "[1, 2]"}
    assert flatten(spec) == {**flat, "team": None, "prompts": None}
    team = {"name": "newsroom", "digest": "1f2e3d4c5b6a", "roles": []}
    assert flatten({**spec, "team": team}) == {**flat, "team": "newsroom@1f2e3d", "prompts": None}


def test_teams_tell_cells_apart():
    """Catches the cells of two teams, or of a team and the workload's own, that merge into one, also where the record
    of the latter is from a version without teams."""
    mine = {**flatten(TrialSpec().to_dict()), "team": "newsroom@1f2e3d", "prompts": None}
    plain = flatten({key: value for key, value in TrialSpec().to_dict().items() if key != "team"})
    assert name_cells([plain, mine]) == [
        Cell("recall", 3, "dense", ""),
        Cell("recall", 3, "dense", "team=newsroom@1f2e3d"),
    ]


def test_only_what_differs_is_named():
    """Catches names that tell cells apart too little, or that repeat what is the same everywhere."""
    specs = [
        TrialSpec(),
        TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=0.1)),
        TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=0.3)),
    ]
    assert names(*specs) == [
        Cell("recall", 3, "dense", ""),
        Cell("recall", 3, "kvcomm gamma=0.1", ""),
        Cell("recall", 3, "kvcomm gamma=0.3", ""),
    ]
    assert str(names(*specs)[1]) == "recall, 3 agents, kvcomm gamma=0.1"


def test_fields_are_compared_where_they_apply():
    """Catches two workloads whose limits differ by nature being named by limit."""
    two = names(TrialSpec(workload=recall.RecallSpec(limit=12)), TrialSpec(workload=gsm8k.Gsm8kSpec(limit=3)))
    assert [cell.workload for cell in two] == ["recall", "gsm8k"]
    same = names(TrialSpec(workload=recall.RecallSpec(limit=12)), TrialSpec(workload=recall.RecallSpec(limit=3)))
    assert [cell.workload for cell in same] == ["recall limit=12", "recall limit=3"]


def test_seeds_are_one_cell_and_other_fields_are_settings():
    """Catches repetitions listed as cells of their own, and cells that differ in dtype taken for one."""
    assert len(set(names(TrialSpec(seed=0), TrialSpec(seed=1)))) == 1
    assert [cell.settings for cell in names(TrialSpec(dtype="float32"), TrialSpec(dtype="bfloat16"))] == [
        "dtype=float32",
        "dtype=bfloat16",
    ]
    reuse = TrialSpec(method="kvcomm", fidelity=0.2)
    assert [cell.settings for cell in names(TrialSpec(), reuse)] == ["", ""]
