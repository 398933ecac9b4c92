"""Sweeps as jobs of a Ray cluster: pack code and sweep, send them through Ray's Jobs API, follow the job.

The job is ``python -m sweeps.cli run`` on the head, in a folder with our four packages and the sweep. So the cluster
runs the code that submitted the job. The cluster's ``python`` must have the packages that the code imports.
"""

import asyncio
import json
import logging
import os
import re
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.environment import GIT_STATE_FILE, capture_environment
from harness.redaction import has_secret, redact
from harness.text import displayed
from kvcomm_core.config import one_line
from sweeps.language.strict_yaml import SweepError
from sweeps.language.sweep_spec import SweepSpec

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

DASHBOARD = "http://127.0.0.1:8265"
JOB_RESULTS = "~/kvcomm-results"
"""Folder on the head. A job's own folder belongs to Ray, which deletes it when it needs the space."""

PACKED = ("kvcomm_core", "harness", "sweeps", "analysis", "pyproject.toml")
NOT_PACKED = ("__pycache__", ".ipynb_checkpoints", "embedded", "notebooks", "pictures", "*.md")
"""Parts of these packages that no job needs: the shipped results and the texts beside them are for readers."""
SWEEP_FILE = "sweep.yaml"

_CONNECT_S = 10.0
_RETRIES = 5
_POLL_S = 1.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Ray colours the names of processes in logs."""


class JobError(Exception):
    """A job cannot be sent or followed, or has died. The message gives the reason in one line."""


class Auth(StrEnum):
    """The authentication of those who send jobs, as in Ray's ``RAY_AUTH_MODE``."""

    TOKEN = "token"  # noqa: S105 - the name of a mode
    DISABLED = "disabled"


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

    def __post_init__(self) -> None:
        if not (self.results.startswith(("/", "~/")) or "://" in self.results):
            raise SweepError(f"--results is {self.results!r}; allowed: a URI, or a path that begins with / or ~/")
        for model in dict.fromkeys(trial.model for trial in self.sweep.trials):
            if model != "embedded" and not Path(model).is_absolute() and Path(model).exists():
                raise SweepError(
                    f"model is {model!r}, which lies on this machine; allowed: embedded, random:, a Hub id, or an "
                    "absolute path that every node of the cluster has"
                )
        self._data()

    def pack(self, folder: Path) -> None:
        """Copy the code, the sweep and the data files that it names by relative paths into ``folder``."""
        root = Path(__file__).resolve().parents[1]
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
        teams = {Path(name) for name in self.sweep.files}
        for path in teams:
            if path.is_absolute() or ".." in path.parts:
                raise SweepError(f"team has the file {str(path)!r}; allowed: files below the current folder")
        found = {path for workload in workloads for path in Path("data").glob(f"{workload.name}*")}
        return sorted({path for path in named if not path.is_absolute()} | teams | found)


class Cluster:
    """A Ray cluster, reached through its head's dashboard."""

    def __init__(self, address: str, auth: Auth) -> None:
        """Connect. Raises ``JobError`` if nobody answers at the address, or it wants another token."""
        self._address, self._auth = address.rstrip("/"), auth
        _reach(self._address)
        # Ray reads these at import, and would prefer its own variables to the address.
        os.environ["RAY_AUTH_MODE"] = auth.value
        for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(variable, None)
        try:
            from ray.job_submission import JobSubmissionClient
        except ModuleNotFoundError as error:
            raise JobError(f"{error.name} is not installed; submit needs it") from None
        for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)  # they log every request
        with self._one_line():
            self._client = JobSubmissionClient(self._address)

    def submit(self, job: Job, say: Callable[[str], None]) -> str:
        """Send a job, say how to follow it, stop it and fetch its results, and return its id. Raises ``JobError``."""
        variables = {"RAY_AUTH_MODE": self._auth.value, "RAY_USAGE_STATS_ENABLED": "0"}
        if job.tracking_uri:
            variables["MLFLOW_TRACKING_URI"] = job.tracking_uri
        with self._one_line(), tempfile.TemporaryDirectory(prefix="kvcomm-") as folder:
            job.pack(Path(folder))
            job_id = str(
                self._client.submit_job(
                    entrypoint=entrypoint(SWEEP_FILE, job.results, allow_unsafe_code=job.allow_unsafe_code),
                    runtime_env={"working_dir": folder, "env_vars": variables},
                    metadata={"sweep": job.sweep.name},
                )
            )
        address = redact(self._address)
        options = f"--address {address} --auth {self._auth.value}"
        say(f"job:    {job_id}, {len(job.sweep.trials)} trials")
        say(f"follow: kvcomm submit --attach {job_id} {options}")
        say(f"stop:   RAY_AUTH_MODE={self._auth.value} ray job stop --address {address} {job_id}")
        say(f"fetch:  {redact(_fetch(job.results))}")
        if any(has_secret(uri) for uri in (job.tracking_uri, job.results) if uri):
            say(
                "note:   who may list the cluster's jobs sees the password in your URI; give the head's environment "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the credentials of the store"
            )
        return job_id

    def follow(self, job_id: str, say: Callable[[str], None]) -> int:
        """Print a job's log until it ends. Return its exit code, or 130 if the job was stopped.

        The exit code is that of ``kvcomm run`` in the job. Raises ``JobError`` if there is no such job, if the head can
        no longer be reached, or if the job died without such an exit code. Ctrl-C leaves the job running.
        """
        try:
            details = self._end_of(job_id)
        except KeyboardInterrupt:
            say(f"no longer following {job_id}, which goes on")
            return 130
        status, code = str(details.status), details.driver_exit_code
        if status == "SUCCEEDED":
            return 0
        if status == "STOPPED":
            say(f"job {job_id} was stopped")
            return 130
        if code in (1, 2, 130):
            return int(code)
        reason = one_line(details.message or "no reason given")
        raise JobError(f"job {job_id} died{'' if code is None else f' with exit code {code}'}: {redact(reason)[:500]}")

    def _end_of(self, job_id: str) -> "JobDetails":
        """Print the new part of the log until the job ends, and reconnect if the connection is lost."""
        printed, failures = 0, 0
        while True:
            try:
                with self._one_line():
                    details = self._client.get_job_info(job_id)
                    printed = asyncio.run(self._print_log(job_id, printed))
                    details = self._client.get_job_info(job_id)
                failures = 0
            except JobError:
                failures += 1
                if failures == _RETRIES or printed == 0:
                    raise
            else:
                if details.status.is_terminal():
                    return details
            time.sleep(_POLL_S)

    async def _print_log(self, job_id: str, printed: int) -> int:
        seen = 0
        async for chunk in self._client.tail_job_logs(job_id):
            fresh = chunk[max(0, printed - seen) :]
            seen += len(chunk)
            print(displayed(_COLOUR.sub("", fresh)), end="", flush=True)  # noqa: T201
        return max(seen, printed)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except (JobError, SweepError):
            raise
        except AuthenticationError:
            raise JobError(
                f"{self._address} wants a token that is not ours; allowed: --auth token with the cluster's token in "
                "~/.ray/auth_token, or in the file that RAY_AUTH_TOKEN_PATH names"
            ) from None
        except Exception as error:  # noqa: BLE001 - Ray's, requests' and aiohttp's errors have no common base
            raise JobError(f"{redact(self._address)}: {redact(' '.join(str(error).split()))[:500]}") from None


def _reach(address: str) -> None:
    """Check that something listens at ``address``, in seconds rather than minutes."""
    parts = urlsplit(address)
    try:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise JobError(f"--address is {address!r}; allowed: http://HOST:PORT, as of the head's dashboard") from None
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise JobError(f"{address} cannot be reached: {error.strerror or error}") from None


def _fetch(results: str) -> str:
    if "://" in results:
        return f"kvcomm show {results}"
    return f"copy {results} of the head, such as: rsync -a HEAD:{results}/ results/"
