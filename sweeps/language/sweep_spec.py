"""``SweepSpec``: a sweep file, expanded into trials.

    name: smoke
    workload: {name: recall, limit: 12}
    replicas: 2
    grid:                        # every combination is a trial
      agents: [2, 3]
      method: [dense, kvcomm]
      kvcomm.gamma: [0.1, 0.3]

Any field of ``TrialSpec`` may appear at the top (one value) or on an axis (``grid``, ``zip``, ``list``, ``random``,
``repeats``: see ``combinations.py``). So may the fields of ``workload`` and of a method's parameters, with a dot. A
method's parameters apply only to that method, and a workload's fields only to the workloads that have them, so
``dense`` above gives two trials, not four. ``exclude`` drops combinations (``exclusion.py``). Equal combinations give
one trial. Paths are relative to the folder in which the command starts, or to the file (``named_files.py``).

``extends`` and ``profiles`` put the entries of a file over those of another, and those of a profile over both
(``inheritance.py``). The user must choose one of the profiles: only a profile completes such a file, and nothing shows
which one was meant. README.md lists all keys.
"""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.agents import Team
from harness.spec import TrialSpec
from harness.workloads import built_in
from kvcomm_core.config import require, shown
from sweeps.language.combinations import Axis, Row, combine, read_axes
from sweeps.language.exclusion import excluded, read_rules
from sweeps.language.fields import SETTINGS, import_plug_ins
from sweeps.language.inheritance import Layers, choose_profile, load_layers, parse_override
from sweeps.language.named_files import completed, read_teams, team_files
from sweeps.language.strict_yaml import Plain, SweepError, dump_sweep
from sweeps.language.trial_building import CombinationError, check_applicable, idle_parameters, make_trial, validated


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """The trials of a sweep, and the replicas they run on."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    name: str
    """Name of the results' folder: letters, digits, ``.``, ``_`` and ``-``."""

    replicas: int = 1
    """Copies of the model that run side by side."""

    gpus_per_replica: float | None = None
    """A whole number, or a fraction below 1. None divides the machine's GPUs among the replicas, at most 1 each."""

    cpus_per_replica: int | None = None
    """None divides the machine's cores among the replicas, at least 1 each."""

    accelerator: str | None = None
    """Type of GPU that every replica needs, as Ray names it, such as ``H100`` or ``A100-80G``: on a cluster, replicas
    start only on nodes whose label ``ray.io/accelerator-type`` says so. None takes any."""

    exclusive: bool | None = None
    """Whether each trial has its machine to itself, with all cores as threads unless ``cpus_per_replica`` says
    otherwise. None makes timings (``ttft``, ``blend``) on a CPU exclusive."""

    deadline_s: float | None = None
    """Seconds that an attempt of a trial may take, including loading the model. A longer attempt ends as ``timeout``,
    and the trial is not retried in this run."""

    autoscaling: bool = False
    """Whether the cluster starts nodes on demand. A replica's resources are then not checked against the present nodes,
    and must be set."""

    checkpoint_minutes: float = 5.0
    """Least minutes between two checkpoints of a trial on questions, written between batches. 0 writes none."""

    skip_if_missing: tuple[str, ...] = ()
    """Workloads whose trials are left out, with a message, if their data is missing."""

    take_from: tuple[str, ...] = ()
    """Other sweeps in the same results folder. Trials that they have finished are copied instead of run."""

    trials: tuple[TrialSpec, ...] = ()
    """The distinct trials, in the order of the combinations."""

    axes: tuple[str, ...] = ()
    """Readable account of the trials: a line per axis, one for what ``exclude`` drops, and the total."""

    text: str = ""
    """The sweep as a sweep file, including the overrides."""

    hints: tuple[str, ...] = ()
    """Entries without effect, and what would give them one, in a line each."""

    files: tuple[str, ...] = ()
    """Files of the trials' teams and of their prompts. ``text`` names the teams by these paths."""

    def __post_init__(self) -> None:
        for field, names in (("name", (self.name,)), ("take_from", self.take_from)):
            for name in names:
                safe = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None
                require(safe, field, name, "letters, digits, '.', '_' and '-', a letter or digit first, up to 100")
        require(self.name not in self.take_from, "take_from", self.name, "names of other sweeps")
        require(self.replicas >= 1, "replicas", self.replicas, "1 or more")
        gpus, cpus = self.gpus_per_replica, self.cpus_per_replica
        whole = gpus is None or 0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))
        require(whole, "gpus_per_replica", gpus, "0 to 1, or a whole number")
        require(cpus is None or cpus >= 1, "cpus_per_replica", cpus, "1 or more")
        kind = self.accelerator
        is_label = kind is None or re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", kind) is not None
        require(is_label, "accelerator", kind, "a type of GPU as Ray names it, such as H100")
        deadline = self.deadline_s
        require(deadline is None or 0 < deadline < math.inf, "deadline_s", deadline, "a number of seconds above 0")
        for name, given in (("gpus_per_replica", gpus), ("cpus_per_replica", cpus)):
            require(not self.autoscaling or given is not None, name, given, "a number, with autoscaling")
        minutes = self.checkpoint_minutes
        require(0 <= minutes < math.inf, "checkpoint_minutes", minutes, "0 or more")
        for workload in self.skip_if_missing:
            require(workload in built_in(), "skip_if_missing", workload, ", ".join(built_in()))

    def is_exclusive(self, trial: TrialSpec, *, on_gpu: bool) -> bool:
        """Return whether a trial of this sweep needs its machine to itself."""
        if self.exclusive is not None:
            return self.exclusive
        return trial.workload.timing and not on_gpu


def load_sweep(
    path: Path, overrides: Sequence[str] = (), limit: int | None = None, profile: str | None = None
) -> SweepSpec:
    """Read a sweep file. ``overrides`` are ``key=value`` and beat the profile; ``limit`` applies to every workload.

    Raises ``SweepError``, with one line, for any invalid input.
    """
    make_importable(path)
    bases: list[Path] = []
    given = [parse_override(override) for override in overrides]
    try:
        layers, bases = load_layers(path)
        choose_profile(layers, profile)
        for key, value in given:
            layers.put(key, value)
        if limit is not None:
            layers.put("workload.limit", limit)
        return _sweep(layers)
    except SweepError as error:
        extends = "".join(f" (extends {base})" for base in bases)
        raise SweepError(f"{path}{extends}: {error}") from None


def make_importable(path: Path) -> None:
    """Let Python find modules beside a sweep file and in the current folder: methods and workloads that it names."""
    for folder in (str(path.resolve().parent), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)


def _sweep(layers: Layers) -> SweepSpec:
    entries = layers.entries
    sweep = validated(SweepSpec, {key: value for key, value in entries.items() if key in SETTINGS}, "")
    import_plug_ins(dict(entries))
    axes = read_axes(entries)
    rules = read_rules(entries.get("exclude", []))
    combinations = combine(axes)
    check_applicable(axes, combinations)
    teams = read_teams(combinations)
    combinations = [completed(combination, teams) for combination in combinations]
    kept, counts = excluded(combinations, rules, layers.replaced)
    trials = tuple(dict.fromkeys(_trial(combination, axes, teams) for combination in kept))
    lines = [f"{axis.section:8} {axis.text}" for axis in axes if axis.text]
    dropped = len(combinations) - len(kept)
    if dropped:
        live = sum(map(bool, counts))
        lines.append(f"{'exclude':8} {live} rule(s) drop {dropped} of {len(combinations)} combinations")
    if lines:
        lines.append(f"{'trials':8} {len(trials)} different ones in {len(kept)} combinations")
    text = dump_sweep(_without_idle_rules(entries, counts))
    hints, files = idle_parameters(axes, kept), team_files(teams)
    return replace(sweep, trials=trials, axes=tuple(lines), text=text, hints=hints, files=files)


def _trial(combination: Row, axes: Sequence[Axis], teams: Mapping[str, Team]) -> TrialSpec:
    try:
        return make_trial(combination, teams)
    except CombinationError as error:
        varied = dict.fromkeys(key for axis in axes if len(axis.rows) > 1 for row in axis.rows for key in row)
        if not varied:
            raise
        values = ", ".join(f"{key}: {shown(combination[key])}" for key in varied if key in combination)
        values = values if len(values) <= 300 else f"{values[:297]}..."
        raise SweepError(f"{error} (in the combination {values}; exclude can drop it)") from None


def _without_idle_rules(entries: dict[str, Plain], counts: Sequence[int]) -> dict[str, Plain]:
    """Return the entries without rules that no longer match: on a second reading nothing would justify them."""
    rules = entries.get("exclude")
    if not isinstance(rules, list) or all(counts):
        return entries
    live = [rule for rule, count in zip(rules, counts, strict=True) if count]
    return {**{key: value for key, value in entries.items() if key != "exclude"}, **({"exclude": live} if live else {})}
