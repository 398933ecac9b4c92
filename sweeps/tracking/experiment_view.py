"""The first view of the experiment."""

from typing import TYPE_CHECKING

from sweeps.tracking.parent_view import EXPERIMENT_NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient


def set_up_experiment(client: "MlflowClient", experiment: str) -> None:
    """Describe a new experiment, and prepare what its page shows first."""
    tags = {
        "mlflow.note.content": EXPERIMENT_NOTE,
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "speedup",
    }
    for key, value in tags.items():
        client.set_experiment_tag(experiment, key, value)
