"""Sweeps as jobs of a Ray cluster: send them through Ray's Jobs API, and follow the job."""

import asyncio
import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.redaction import has_secret, redact
from harness.text import displayed
from kvcomm_core.config import one_line
from sweeps.jobs.job import SWEEP_FILE, Job, entrypoint
from sweeps.jobs.open_head import is_open
from sweeps.jobs.runtime_env import merged, shown_secrets
from sweeps.language.strict_yaml import SweepError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

DASHBOARD = "http://127.0.0.1:8265"
OPEN = "open:   {} asks for no token: anybody who reaches it may run commands there, and read what --env sends"

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


class Cluster:
    """A Ray cluster, reached through its head's dashboard."""

    def __init__(self, address: str, auth: Auth) -> None:
        """Connect. Raises ``JobError`` if nobody answers at the address, or it wants another token."""
        self._address, self._auth = address.rstrip("/"), auth
        _reach(self._address)
        self._is_open = is_open(self._address)
        self._printed = 0
        """Characters of the followed job's log that have been printed."""
        if self._is_open and auth is Auth.TOKEN:
            raise JobError(f"{redact(self._address)} asks for no token, but --auth is token; allowed: --auth disabled")
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

    @property
    def warning(self) -> str | None:
        """One line for the user if the head takes commands from anybody. Otherwise None."""
        return OPEN.format(redact(self._address)) if self._is_open else None

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
                    runtime_env=merged(job.runtime_env, folder, variables),
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
                "note:   who may list the cluster's jobs sees the password in your URI; leave it out, and send "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the credentials of the store, by --env"
            )
        if names := shown_secrets(job.runtime_env):
            say(f"note:   who may list the cluster's jobs sees {', '.join(names)}; --env NAME sends it hidden")
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
        self._printed, failures, is_known = 0, 0, False
        while True:
            try:
                with self._one_line():
                    details = self._client.get_job_info(job_id)
                    is_known = True
                    asyncio.run(self._print_log(job_id))
                    details = self._client.get_job_info(job_id)
                failures = 0
            except JobError:
                failures += 1
                if failures == _RETRIES or not is_known:
                    raise
            else:
                if details.status.is_terminal():
                    return details
            time.sleep(_POLL_S)

    async def _print_log(self, job_id: str) -> None:
        """Print the log from its start, without what an earlier call has printed of it."""
        seen = 0
        async for chunk in self._client.tail_job_logs(job_id):
            fresh = chunk[max(0, self._printed - seen) :]
            seen += len(chunk)
            self._printed = max(seen, self._printed)
            print(displayed(_COLOUR.sub("", fresh)), end="", flush=True)  # noqa: T201

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
