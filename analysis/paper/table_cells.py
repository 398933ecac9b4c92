"""Which trials are a cell of the paper.

A trial is told by its spec, whatever sweep ran it: by its workload, its number of agents, its method and all of the
method's parameters, which are those of the paper but where the cell says otherwise. What is left of the spec, such as
``max_new_tokens`` or ``workload.limit``, are *settings*: trials that differ in them are rows of their own.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict

from analysis.arms import OWN_FIELDS, Arm, Arms
from analysis.load import Records, flat_specs
from harness.cells import FlatSpec, Scalar, flatten
from kvcomm_core.config import CacheBlendConfig, KVCommConfig

Where = Mapping[str, Scalar]
"""Values of flat spec fields that a cell's trials have."""

_DEFAULTS: FlatSpec = {
    **flatten({"kvcomm": asdict(KVCommConfig()), "cacheblend": asdict(CacheBlendConfig())}),
    "workload.order": "file",
}
"""Of fields that a record may lack since it is older than the field."""


def graded(workload: str, agents: int, method: str, **parameters: Scalar) -> Where:
    """A cell of answers: the paper's parameters but for those given (``gamma=0.1``), items in their own order."""
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
    """A cell of timings by kvcomm, which the paper times with gamma 1.0; ``lengths`` are fields of the workload."""
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
    """The trials of some records, to be asked for those of a cell."""

    def __init__(self, records: Records) -> None:
        """Of trials that several sweeps ran, one is taken."""
        records = records.each_trial_once()
        self._arms = Arms(records)
        self._specs = flat_specs(records.trials)

    def models(self, cells: list[Where]) -> list[str]:
        """Our models that ran any of the cells."""
        found = (str(spec["model"]) for spec in self._specs.values() if any(_matches(spec, where) for where in cells))
        return sorted(set(found))

    def arms(self, model: str, where: Where, seeds: Collection[Scalar] | None = None) -> Iterator[tuple[FlatSpec, Arm]]:
        """The arms of one cell, one for each of its settings, in the order of their text; of trials with other seeds
        than ``seeds``, if given, nothing."""
        by_settings: dict[str, list[str]] = {}
        for trial_id, spec in self._specs.items():
            if spec["model"] == model and _matches(spec, where) and (seeds is None or spec["seed"] in seeds):
                by_settings.setdefault(json.dumps(_settings(spec, where), sort_keys=True), []).append(trial_id)
        for settings, trial_ids in sorted(by_settings.items()):
            yield json.loads(settings), self._arms.of(trial_ids)

    def seeds(self, where: Where, model: str | None = None) -> list[int]:
        """Seeds of the trials of a cell, of one of our models or of all."""
        specs = (spec for spec in self._specs.values() if model in (None, spec["model"]))
        return sorted({int(str(spec["seed"])) for spec in specs if _matches(spec, where)})


def _matches(spec: FlatSpec, where: Where) -> bool:
    return all(spec.get(key, _DEFAULTS.get(key)) == value for key, value in where.items())


def _settings(spec: FlatSpec, where: Where) -> FlatSpec:
    """What neither the cell says nor is a repetition."""
    left_out = {"model", "seed", *OWN_FIELDS, *where}
    return {k: v for k, v in spec.items() if k not in left_out and k.partition(".")[0] not in OWN_FIELDS}
