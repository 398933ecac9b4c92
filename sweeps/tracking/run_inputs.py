"""Datasets and models as MLflow knows them: linked to every run that used them, and made once in an experiment."""

from typing import TYPE_CHECKING

from sweeps.tracking.run_view import DatasetView, ModelView

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

_DIGEST = "kvcomm.digest"


class RunInputs:
    """The datasets and models of an experiment."""

    def __init__(self, client: "MlflowClient", experiment: str) -> None:
        self._client, self._experiment = client, experiment
        self._models: dict[str, str] = {}

    def log(self, run_id: str, dataset: DatasetView | None, model: ModelView | None) -> None:
        """Link a run with its dataset and its model. Doing it again changes nothing."""
        from mlflow.entities import LoggedModelInput

        datasets = [] if dataset is None else [_dataset_input(dataset)]
        models = [] if model is None else [LoggedModelInput(self._model_id(model))]
        if datasets or models:
            self._client.log_inputs(run_id, datasets, models)

    def _model_id(self, model: ModelView) -> str:
        """Return the id of the logged model with these weights, and make it if there is none."""
        if model.digest not in self._models:
            same = f"tags.`{_DIGEST}` = '{model.digest}'"
            found = self._client.search_logged_models([self._experiment], same, max_results=1)
            self._models[model.digest] = found[0].model_id if found else self._new_model(model)
        return self._models[model.digest]

    def _new_model(self, model: ModelView) -> str:
        made = self._client.create_logged_model(
            self._experiment,
            name=model.name,
            # External: its weights are elsewhere, so there is nothing to load from MLflow.
            tags={**model.tags, _DIGEST: model.digest, "mlflow.model.isExternal": "true"},
            model_type="causal language model",
        )
        self._client.finalize_logged_model(made.model_id, "READY")
        return str(made.model_id)


def _dataset_input(view: DatasetView) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=view.name, digest=view.digest, source_type="kvcomm", source=view.source, profile=view.profile
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])
