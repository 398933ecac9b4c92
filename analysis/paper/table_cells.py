"""Find the trials of a cell of the paper.

Trials are matched by their specs, whatever sweep ran them: by workload, number of agents, method and all parameters of
the method, which are the paper's unless the cell says otherwise. All other spec fields, such as ``max_new_tokens`` or
``workload.limit``, are *settings*: trials with different settings get separate rows.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict

from analysis.arms import Arm, Arms
from analysis.results import Results, flat_specs
from harness.cells import FlatSpec, Scalar, flatten, method_fields
from kvcomm_core.config import KVCommConfig
from kvcomm_core.methods.baseline_config import CacheBlendConfig

Where = Mapping[str, Scalar]
"""Flat spec fields and their values in a cell's trials."""

_DEFAULTS: FlatSpec = {
    **flatten({"kvcomm": asdict(KVCommConfig()), "cacheblend": asdict(CacheBlendConfig())}),
    "workload.order": "file",
}
"""Defaults of fields that are missing from results older than the field."""


def graded(workload: str, agents: int, method: str, **parameters: Scalar) -> Where:
    """Describe a cell of answers: the paper's parameters except those given (``gamma=0.1``), items in file order."""
    order = parameters.pop("order", "file")
    return {
        "workload.name": workload,
        "workload.order": order,
        "agents": agents,
        "rounds": 1,
        "topology": "fully_connected",
        **_method(method, parameters),
    }


def timed(workload: str, agents: int | None = None, *, lengths: Where, **parameters: Scalar) -> Where:
    """Describe a cell of kvcomm timings, with the paper's gamma of 1.0; ``lengths`` are fields of the workload."""
    where = {f"workload.{key}": value for key, value in lengths.items()}
    return {
        "workload.name": workload,
        **({} if agents is None else {"agents": agents}),
        **where,
        **_method("kvcomm", {"gamma": 1.0, **parameters}),
    }


def _method(method: str, parameters: Where) -> Where:
    own = {key: value for key, value in _DEFAULTS.items() if key.startswith(f"{method}.")}
    return {"method": method, **own, **{f"{method}.{key}": value for key, value in parameters.items()}}


class Cells:
    """The trials of some results, searchable by cell."""

    def __init__(self, results: Results) -> None:
        """Index the results. Keep one run of a trial that several sweeps ran."""
        results = results.each_trial_once()
        self._arms = Arms(results)
        self._specs = flat_specs(results.trials)

    def models(self, cells: list[Where]) -> list[str]:
        """Return our models that ran any of the cells."""
        found = (str(spec["model"]) for spec in self._specs.values() if any(_matches(spec, where) for where in cells))
        return sorted(set(found))

    def arms(self, model: str, where: Where, seeds: Collection[Scalar] | None = None) -> Iterator[tuple[FlatSpec, Arm]]:
        """Yield the arms of one cell, one per setting, sorted by the settings' text.

        If ``seeds`` is given, leave out trials with other seeds.
        """
        by_settings: dict[str, list[str]] = {}
        for trial_id, spec in self._specs.items():
            if spec["model"] == model and _matches(spec, where) and (seeds is None or spec["seed"] in seeds):
                by_settings.setdefault(json.dumps(_settings(spec, where), sort_keys=True), []).append(trial_id)
        for settings, trial_ids in sorted(by_settings.items()):
            yield json.loads(settings), self._arms.of(trial_ids)

    def seeds(self, where: Where, model: str | None = None) -> list[int]:
        """Return the seeds of a cell's trials, for one of our models or for all."""
        specs = (spec for spec in self._specs.values() if model in (None, spec["model"]))
        return sorted({int(str(spec["seed"])) for spec in specs if _matches(spec, where)})


def cells_in(results: Results) -> Cells:
    """Return the cells of some results; the tables of the same ``Results`` share them."""
    kept = vars(results)  # there, they live as long as the results do
    if "paper_cells" not in kept:
        kept["paper_cells"] = Cells(results)
    found: Cells = kept["paper_cells"]
    return found


def _matches(spec: FlatSpec, where: Where) -> bool:
    return all(spec.get(key, _DEFAULTS.get(key)) == value for key, value in where.items())


def _settings(spec: FlatSpec, where: Where) -> FlatSpec:
    """Return the spec fields that the cell does not fix, without those of the model, seed and method."""
    own = method_fields(spec)
    left_out = {"model", "seed", *where}
    return {k: v for k, v in spec.items() if k not in left_out and k.partition(".")[0] not in own}
