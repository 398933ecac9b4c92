"""What is written on a sweep's run and on the experiment."""

import base64
import json
import zlib
from types import SimpleNamespace

from made_up import write_results

from harness.cells import flatten
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig
from sweeps.tracking.comparisons import ESTIMATES
from sweeps.tracking.experiment_view import key_of_view, save_view
from sweeps.tracking.parent_view import EXPERIMENT_NOTE, fields_of, sweep_note
from sweeps.tracking.sweep_content import SweepContent

SPECS = [
    TrialSpec(agents=2),
    *(TrialSpec(method="kvcomm", parameters=KVCommConfig(gamma=gamma), fidelity=0.5) for gamma in (0.1, 0.3)),
]


def test_the_note_says_how_to_run_it_again(tmp_path, make_result):
    """Catches a command without its folder, a swept field among the constants, and the parameters of one method."""
    folder = tmp_path / "my results"
    write_results(folder, *(make_result(spec) for spec in SPECS))
    content = SweepContent(folder / "s")
    note = sweep_note(folder / "s", content.rows, content.specs)
    assert f"`kvcomm run '{folder}/s/sweep.yaml' --results '{folder}'` runs what is missing" in note
    differs, same = (line for line in note.splitlines() if line.startswith(("**Differs", "**Same")))
    assert differs == "**Differs:** `agents` (2, 3), `method` (dense, kvcomm), `kvcomm.gamma` (0.1, 0.3)"
    assert "`workload.limit=12`" in same
    assert "gamma" not in same
    assert "kvcomm.window" not in same


def test_every_metric_with_an_interval_is_explained_or_named_alike():
    """Catches a name in the note that no run has."""
    named = {word for word in EXPERIMENT_NOTE.replace("`", " ").split() if "_" in word or word in ("speedup", "kl")}
    assert {name for name in named if name.isidentifier()} <= ESTIMATES.keys()


class Tags(dict):
    def set_experiment_tag(self, experiment, key, value):
        self[key] = value


PARENT = SimpleNamespace(info=SimpleNamespace(run_id="5eed", experiment_id="1"))


def test_a_view_shows_the_trials_of_its_sweep():
    """Catches a view that MLflow's page cannot read, columns that are not there, and one for which there is no room."""
    tags = Tags()
    swept, _ = fields_of([flatten(spec.to_dict()) for spec in SPECS])
    save_view(tags, PARENT, "smoke", list(swept), 5)
    saved = json.loads(tags[f"mlflow.sharedViewState.{key_of_view('smoke')}"])
    assert (saved["name"], saved["createdAt"], saved["updatedAt"]) == ("smoke", 5, 5)
    kind, _, packed = saved["state"].partition(";")
    assert kind == "deflate"
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = '5eed'"
    assert state["selectedColumns"][:3] == ["params.`agents`", "params.`method`", "params.`kvcomm.gamma`"]
    shown = {chart.get("metricKey") for chart in state["compareRunCharts"]} - {None}
    assert shown <= ESTIMATES.keys()
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections
    save_view(tags, PARENT, "large", [f"kvcomm.{index}-{index**9}" for index in range(2000)], 5)
    assert len(tags) == 1
