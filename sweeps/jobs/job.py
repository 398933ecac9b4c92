"""A job: a sweep with its run's settings, and the folder that a cluster gets for it.

The job is ``python -m sweeps.cli run`` on the head, in a folder with our four packages and the sweep. So the cluster
runs the code that submitted the job. The cluster's ``python`` must have the packages that the code imports.
"""

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.environment import GIT_STATE_FILE, capture_environment
from harness.secrets import write_secrets
from kvcomm_core.models.named_models import NAMED_MODELS
from sweeps.jobs.plug_in_files import plug_in_files
from sweeps.jobs.runtime_env import RuntimeEnv
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec

JOB_RESULTS = "~/kvcomm-results"
"""Folder on the head. A job's own folder belongs to Ray, which deletes it when it needs the space."""

PACKED = ("kvcomm_core", "harness", "sweeps", "analysis", "pyproject.toml")
NOT_PACKED = (
    "__pycache__",
    ".ipynb_checkpoints",
    "embedded",
    "embedded_arena",
    "notebooks",
    "pictures",
    "*.md",
)
"""Parts of these packages that no job needs: the shipped results and the texts beside them are for readers."""
SWEEP_FILE = "sweep.yaml"


def entrypoint(sweep_file: str, results: str, *, allow_unsafe_code: bool = False) -> str:
    """Return the command of a job for the head's shell, which expands ``~``."""
    home, tilde, below = results.partition("~/")
    place = f"~/{shlex.quote(below)}" if tilde and not home else shlex.quote(results)
    option = " --allow-unsafe-code" if allow_unsafe_code else ""
    return f"python -m sweeps.cli run {shlex.quote(sweep_file)} --results {place}{option}"


@dataclass(frozen=True, slots=True)
class Job:
    """A sweep and its run's settings. Raises ``SweepError`` for anything with another meaning on another machine."""

    sweep: SweepSpec
    results: str
    tracking_uri: str | None = None
    allow_unsafe_code: bool = False
    runtime_env: RuntimeEnv = field(default_factory=dict)
    """The requests of a user's file to Ray, as ``sweeps.jobs.runtime_env`` reads it."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of the job and its replicas that Ray shows to nobody, by name."""

    def __post_init__(self) -> None:
        if not (self.results.startswith(("/", "~/")) or "://" in self.results):
            raise SweepError(f"--results is {self.results!r}; allowed: a URI, or a path that begins with / or ~/")
        for model in dict.fromkeys(trial.model for trial in self.sweep.trials):
            if model not in NAMED_MODELS and not Path(model).is_absolute() and Path(model).exists():
                allowed = f"{', '.join(NAMED_MODELS)}, random:, a Hub id, or an absolute path that every node has"
                raise SweepError(f"model is {model!r}, which lies on this machine; allowed: {allowed}")
        self._data()

    def pack(self, folder: Path) -> None:
        """Copy the code, the sweep, its plug-ins, and the data files that it names by relative paths into
        ``folder``."""
        root = Path(__file__).resolve().parents[2]
        for name in PACKED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*NOT_PACKED))
            elif source.is_file():
                shutil.copy(source, folder / name)
        (folder / SWEEP_FILE).write_text(self.sweep.text, encoding="utf-8")
        environment = capture_environment()
        state = {"git_commit": environment.git_commit, "git_dirty": environment.git_dirty}
        (folder / GIT_STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
        if self.secrets:
            write_secrets(folder, self.secrets)
        for path in plug_in_files(self.sweep.trials):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, folder / path.name)
        for path in self._data():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, folder / path)
            else:
                shutil.copy(path, folder / path)

    def _data(self) -> list[Path]:
        """Return the files and folders below the current folder that the trials need: those of the teams, the named
        question files, and ``data/<workload>*``."""
        workloads = {trial.workload for trial in self.sweep.trials}
        named = {Path(name) for workload in workloads if (name := getattr(workload, "path", None))}
        for path in (path for path in named if not path.is_absolute()):
            if ".." in path.parts or not path.exists():
                allowed = "something below the current folder, or an absolute path that every node has"
                raise SweepError(f"workload.path is {str(path)!r}; allowed: {allowed}")
        teams = [Path(name) for name in self.sweep.files]
        for path in teams:
            if path.is_absolute() or ".." in path.parts:
                raise SweepError(f"team has the file {str(path)!r}; allowed: files below the current folder")
        found = {path for workload in workloads for path in Path("data").glob(f"{workload.name}*")}
        return sorted({path for path in named if not path.is_absolute()} | {*teams} | found)
