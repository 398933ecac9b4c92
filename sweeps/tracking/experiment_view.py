"""Saved views of MLflow's experiment page: the trials of a sweep side by side, with the charts that say what it shows.

MLflow keeps a saved view in a tag of the experiment and lists it under "Views". Without one its page shows the sweeps
folded up, and a chart for every metric of the first ten runs. The form of a view is not documented; it was read from
the page of MLflow 3.17. A page that does not understand it says so, and shows what it would show without.
"""

import base64
import json
import zlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.tracking.parent_view import EXPERIMENT_NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_TAG = "mlflow.sharedViewState."
_MOST_BYTES = 5000
"""The longest value of a tag that MLflow's databases hold."""

_COLUMNS = (
    "speedup",
    "speedup_low",
    "speedup_high",
    "latency_speedup",
    "ttft_dense_s",
    "ttft_reuse_s",
    "kl",
    "accuracy",
    "accuracy_change",
    "token_reuse_rate",
    "greedy_agreement",
)

_SECTIONS: dict[str, tuple[str | tuple[str, str], ...]] = {
    "Does it pay?": ("speedup", "ttft_sum_speedup", "latency_speedup"),
    "At what price?": ("accuracy_change", "kl", ("kl", "speedup")),
    "How much is reused?": ("token_reuse_rate", "turn_reuse_rate", ("token_reuse_rate", "accuracy")),
}
"""Charts by section: bars of a metric, or one metric against another."""

_RUNS_IN_A_CHART = 50


def set_up_experiment(client: "MlflowClient", experiment: str) -> None:
    """Describe a new experiment."""
    tags = {
        "mlflow.note.content": EXPERIMENT_NOTE,
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "speedup",
    }
    for key, value in tags.items():
        client.set_experiment_tag(experiment, key, value)


def save_view(client: "MlflowClient", parent: "Run", sweep: str, swept: Sequence[str], moment_ms: int) -> None:
    """Save the view of the runs below ``parent``, in which the fields ``swept`` differ. It is left out if it is too
    long."""
    state = _packed(_state(parent.info.run_id, swept))
    text = json.dumps({"name": sweep, "createdAt": moment_ms, "updatedAt": moment_ms, "state": state})
    if len(text) <= _MOST_BYTES:
        client.set_experiment_tag(parent.info.experiment_id, f"{_TAG}{key_of_view(sweep)}", text)


def key_of_view(sweep: str) -> str:
    """Return the key of a sweep's view in the page's address."""
    return f"kvcomm-{sweep}"


def has_view(tags: Collection[str], sweep: str) -> bool:
    """Return whether an experiment with these tags has the view of a sweep."""
    return _TAG + key_of_view(sweep) in tags


def _packed(state: object) -> str:
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def _state(parent_id: str, swept: Sequence[str]) -> dict[str, Any]:
    charts = [
        _chart(section, number, content)
        for section, contents in _SECTIONS.items()
        for number, content in enumerate(contents)
    ]
    shown = [_section(name, display=True) for name in _SECTIONS]
    folded = [_section(name, display=False) for name in ("running", "no_reuse", "Model metrics", "System metrics")]
    columns = [f"params.`{name}`" for name in swept] + [f"metrics.`{name}`" for name in _COLUMNS]
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}'",
        "orderByKey": "metrics.`speedup`",  # in the order of its start a run stays folded up below its parent
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [*shown, *folded],
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
    }


def _section(name: str, *, display: bool) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": display, "isReordered": True, "deleted": False, "isGenerated": False}


def _chart(section: str, number: int, content: str | tuple[str, str]) -> dict[str, Any]:
    chart = {
        "uuid": f"{section} {number}",
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": _RUNS_IN_A_CHART,
    }
    if isinstance(content, str):
        return {**chart, "type": "BAR", "metricKey": content, "displayName": content}
    x, y = content
    return {**chart, "type": "SCATTER", "xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
