"""The environment that produced a result: commit, versions and machine, captured without heavy imports."""

import functools
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

PACKAGES = (
    "kvcomm-harness",
    "accelerate",
    "huggingface-hub",
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "ray",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


GIT_STATE_FILE = "git-state.json"
"""File beside the packages where they are a copy sent to a cluster. It holds ``git_commit`` and ``git_dirty`` of the
original."""


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """The load of the machine, and this process's share of it."""

    average: float
    """Processes that ran or wanted to run, averaged over the last minute."""
    all_cpu_s: float
    """CPU seconds used by all processes since the machine started."""
    own_cpu_s: float
    """CPU seconds used by this process."""

    def others_since(self, earlier: "MachineLoad") -> float:
        """Return the CPU seconds that all other processes used between the two readings; the kernel counts in
        hundredths."""
        return max(0.0, self.all_cpu_s - earlier.all_cpu_s - (self.own_cpu_s - earlier.own_cpu_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The software and the machine at one moment. Unknown values are None."""

    git_commit: str | None
    """Commit of the source tree this code runs from; None if that is not a git checkout."""
    git_dirty: bool | None
    """Whether tracked files of that tree differ from the commit."""
    python: str
    platform: str
    packages: dict[str, str | None]
    """Installed versions; None for a package that is not installed."""
    host: str
    cpu: str | None
    cores: int
    """CPU cores this process may use."""
    threads: int | None
    """Threads of one torch operation; None if torch is not loaded in this process."""
    memory_bytes: int
    gpus: tuple[str, ...]
    """Names of the GPUs this process sees."""
    claims_sha256: str | None = None
    """SHA-256 of the ledger of claims that this code came with; None if it came without. A result that has it is
    younger than the ledger, which so was not fitted to the result."""

    def to_json(self) -> str:
        """Return one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)


def capture_environment() -> Environment:
    """Capture the environment of this process. Takes some ten milliseconds and imports nothing heavy."""
    commit, dirty = _git_state()
    torch = sys.modules.get("torch")
    return Environment(
        git_commit=commit,
        git_dirty=dirty,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: package_version(name) for name in PACKAGES},
        host=socket.gethostname(),
        cpu=_cpu_name(),
        cores=usable_cores(),
        threads=torch.get_num_threads() if torch else None,
        memory_bytes=psutil.virtual_memory().total,
        gpus=gpu_names(),
        claims_sha256=_claims_sha256(),
    )


def measure_load() -> MachineLoad:
    """Measure the load now."""
    cpu = psutil.cpu_times()
    # The times of guests are already included in ``user`` and ``nice``.
    used = cpu.user + cpu.system + sum(getattr(cpu, kind, 0.0) for kind in ("nice", "irq", "softirq"))
    return MachineLoad(psutil.getloadavg()[0], used, time.process_time())


def package_version(name: str) -> str | None:
    """Return the installed version of a distribution; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Return the CPU cores this process may use. A container or ``taskset`` may grant fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_names() -> tuple[str, ...]:
    """Return the GPUs that torch sees or, while torch is not loaded, those that the NVIDIA driver lists."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return tuple(name for card in cards if (name := _line_after(card, "Model")))


def _cpu_name() -> str | None:
    return _line_after(Path("/proc/cpuinfo"), "model name") or platform.processor() or None


def _line_after(path: Path, key: str) -> str | None:
    """Return the value of the first ``key: value`` line in a file of the kernel."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    values = (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key)
    return next(values, None)


@functools.cache
def _claims_sha256() -> str | None:
    """Return the hash of ``analysis/claims.yaml``, read once per process like the code. No code is imported from up
    there: this floor only notes which file it ran with."""
    try:
        return hashlib.sha256(
            (Path(__file__).resolve().parents[1] / "analysis" / "claims.yaml").read_bytes()
        ).hexdigest()
    except OSError:
        return None


@functools.cache
def _git_state() -> tuple[str | None, bool | None]:
    """Return commit and dirty flag, read once per process: the running code is the code that the process started
    with."""
    here = Path(__file__).resolve()
    packed = here.parents[1] / GIT_STATE_FILE
    if packed.is_file():
        state = json.loads(packed.read_text(encoding="utf-8"))
        return state["git_commit"], state["git_dirty"]
    # A package installed inside somebody else's checkout must not report that checkout's commit.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None, None
    commit = _git(here.parent, "rev-parse", "HEAD")
    changes = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    # A git hook exports GIT_DIR of its own repository. Optional locks would disturb a commit in progress.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
