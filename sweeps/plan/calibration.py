"""A quick measurement of a model on this machine, for plans without earlier trials of that model."""

from collections.abc import Iterable
from dataclasses import asdict

from harness.replica import ModelLoadError, Replica
from harness.spec import TrialSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.models.model_config import ModelError
from sweeps.plan.rates import Rates, conditions_here, rates_of

_WORKLOAD = TtftSpec(prefix_tokens=128, input_tokens=128, output_tokens=8, repeats=1, decode=True)


def measure_unknown(rates: Rates, models: Iterable[str], threads: int) -> None:
    """Add measured rates of each model that has none on a device like this machine's.

    ``threads`` is the number per operation if the model runs on the CPU. Raises ``ModelError``.
    """
    for model in models:
        trial = TrialSpec(model=model, workload=_WORKLOAD, agents=2)
        device = conditions_here(trial, threads).partition(",")[0]
        if any(conditions.partition(",")[0] == device for conditions in rates.get(model, {})):
            continue
        replica = Replica(cpus=threads, report=lambda _trial_id, _done, _total: None)
        try:
            result = replica.run(trial, "calibration", 1)
        except ModelLoadError as error:
            raise ModelError(str(error)) from None
        if result.trial.status != "ok":
            raise ModelError(f"model {model!r} cannot be timed: {result.trial.error}")
        measured = rates_of([(asdict(result.trial), [asdict(turn) for turn in result.turns])])
        for conditions, amounts in measured[model].items():
            rates.setdefault(model, {})[conditions] = {**amounts, "trials": 0}
