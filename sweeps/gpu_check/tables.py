"""Tables 2 and 3 of the paper on a GPU: the trials of the shipped files, profile ``paper``, in this process.

The profile decodes the answers of every arm, which would take an hour. Here they are given, as in the profile
``embedded``, which alters no prompt's length, and table 3 takes one repeat. Table 2 also runs ``mean``, with the file's
criterion and with ``length``, for which the project has an aim.

The files are read by a few lines of this module, since a bare machine has no pydantic. A test holds them to the real
reader, trial by trial.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from harness.trials.runner import run_trial
from harness.workloads.ttft import JOINT_TOKENS, TtftSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.models.loading import LoadedModel
from sweeps.gpu_check.figures import Figure, FigureFile
from sweeps.gpu_check.roofs import ModelRoofs, Roof
from sweeps.language.strict_yaml import read_sweep_file

PAPER = Path(__file__).parents[1] / "paper"
AIMS_S = {"dense": 0.110, "mean, length": 0.015}
"""The aims for agent 5 in table 2."""


def trials_of(path: Path, overrides: Mapping[str, Any]) -> list[TrialSpec]:
    """Return the ``ttft`` trials of a file's profile ``paper``, with some entries replaced. Raise ``ValueError`` for a
    file that is more than such trials need."""
    entries: dict[str, Any] = dict(read_sweep_file(path))
    profile = entries.pop("profiles")["paper"]
    workload, kvcomm = dict(entries.pop("workload")), dict(entries.pop("kvcomm"))
    for key, value in {**profile, **overrides}.items():
        section, _, name = key.rpartition(".")
        {"": entries, "workload": workload, "kvcomm": kvcomm}[section][name] = value
    if (workload.pop("name"), entries.pop("method")) != ("ttft", "kvcomm"):
        raise ValueError(f"{path}: allowed here: workload ttft with method kvcomm")
    if unknown := entries.keys() - {"name", "model", "agents"}:
        raise ValueError(f"{path}: {min(unknown)} is not read here; allowed: model, agents, workload and kvcomm")
    return [
        TrialSpec(
            model=entries["model"],
            agents=entries["agents"],
            method="kvcomm",
            workload=TtftSpec(**lengths),
            parameters=KVCommConfig(**parameters),
        )
        for lengths, parameters in product(_combinations(workload), _combinations(kvcomm))
    ]


def _combinations(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    axes = [value if isinstance(value, list) else [value] for value in fields.values()]
    return (dict(zip(fields, values, strict=True)) for values in product(*axes))


def table_2(model: LoadedModel, roofs: ModelRoofs, file: FigureFile, shrink: int) -> None:
    """Time table 2 agent by agent: bare, dense, prefix and kvcomm with three estimators. Lengths are divided by
    ``shrink``."""
    [spec] = trials_of(PAPER / "table_2.yaml", {"model": model.name, "workload.decode": False})
    assert isinstance(spec.parameters, KVCommConfig)  # noqa: S101 - as trials_of makes them
    variants = {
        "l2_norm": spec.parameters,
        "mean": replace(spec.parameters, estimator="mean"),
        "mean, length": replace(spec.parameters, estimator="mean", criterion="length"),
    }
    for index, (name, parameters) in enumerate(variants.items()):
        trial = smaller(replace(spec, parameters=parameters), shrink)
        times = _times(_run(trial, model))
        for (arm, agent), seconds in sorted(times.items(), key=lambda item: (item[0][1], item[0][0])):
            if arm != "kvcomm" and index:
                continue  # the first trial has them
            label = name if arm == "kvcomm" else arm
            file.figure(_figure(label, trial, agent, seconds, roofs, name, aimed=agent == trial.agents and shrink == 1))


def table_3(model: LoadedModel, roofs: ModelRoofs, file: FigureFile, shrink: int) -> None:
    """Time the grid of table 3: dense and kvcomm of the last agent in each cell, and the mean speedup in its note."""
    overrides = {"model": model.name, "workload.decode": False, "workload.repeats": 1}
    for spec in trials_of(PAPER / "table_3.yaml", overrides):
        trial = smaller(spec, shrink)
        times = _times(_run(trial, model))
        agents = range(1, trial.agents + 1)
        speedup = statistics.mean(
            statistics.median(times["dense", agent]) / statistics.median(times["kvcomm", agent]) for agent in agents
        )
        for arm in ("dense", "kvcomm"):
            figure = _figure(arm, trial, trial.agents, times[arm, trial.agents], roofs, "l2_norm", aimed=False)
            workload = _ttft(trial)
            cell = f"prefix {workload.prefix_tokens}, output {workload.output_tokens}: {figure.name}"
            note = f"mean speedup over agents {speedup:.2f}" if arm == "kvcomm" else ""
            file.figure(replace(figure, name=cell, note=note))


def smaller(trial: TrialSpec, shrink: int) -> TrialSpec:
    """Return a trial with all lengths divided by ``shrink``, at least 1 each."""
    return replace(trial, workload=smaller_lengths(_ttft(trial), shrink))


def smaller_lengths(workload: TtftSpec, shrink: int) -> TtftSpec:
    """Return a workload with all lengths divided by ``shrink``, at least 1 each."""
    names = ("prefix_tokens", "input_tokens", "output_tokens")
    return replace(workload, **{name: max(1, getattr(workload, name) // shrink) for name in names})


def _run(trial: TrialSpec, model: LoadedModel) -> TrialResult:
    result = run_trial(trial, model, sweep="gpu_check")
    if result.trial.status != "ok":
        raise RuntimeError(f"the trial ended with {result.trial.status}: {result.trial.error}")
    return result


def _times(result: TrialResult) -> dict[tuple[str, int], list[float]]:
    """Return the times to the first token by arm and agent."""
    times: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for turn in result.turns:
        times[turn.arm, turn.agent_index].append(turn.ttft_s)
    return dict(times)


def _figure(
    label: str, trial: TrialSpec, agent: int, seconds: list[float], roofs: ModelRoofs, variant: str, *, aimed: bool
) -> Figure:
    roof = _roof(label, trial, agent, roofs, variant)
    return Figure(
        name=f"{label}, agent {agent}, {_ttft(trial).prompt_tokens(agent):,} tokens",
        seconds=statistics.median(seconds),
        samples=len(seconds),
        roof_s=None if roof is None else roof[0],
        bound=None if roof is None else roof[1],
        aim_s=AIMS_S.get(label) if aimed else None,
    )


def _roof(label: str, trial: TrialSpec, agent: int, roofs: ModelRoofs, variant: str) -> Roof | None:
    workload, tokens = _ttft(trial), _ttft(trial).prompt_tokens(agent)
    if label in ("dense", "bare"):
        return roofs.prefill(tokens)
    if label == "prefix":
        return None  # what it shares with earlier prompts depends on the agent's own leading text
    new = workload.input_tokens if agent == 1 else workload.output_tokens
    one_term = variant.startswith("mean")
    return roofs.reuse(
        tokens,
        estimated=tokens - workload.prefix_tokens,
        terms=1 if one_term else workload.anchors,
        term_size=4 if one_term else roofs.size,
        matched=0 if variant == "mean, length" else new * workload.anchors,
        prefilled=workload.input_tokens + JOINT_TOKENS if agent == 1 else 0,
    )


def _ttft(trial: TrialSpec) -> TtftSpec:
    assert isinstance(trial.workload, TtftSpec)  # noqa: S101 - whose runner this is
    return trial.workload
