"""The runtime environment of a job: the packages, image and variables that a user's file asks Ray for.

``kvcomm submit`` sets the rest itself: the working folder with the code, and a few variables. A file that sets these,
too, is refused, since one of the two values would get lost.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.redaction import names_a_secret
from kvcomm_core.config import shown
from sweeps.language.strict_yaml import Plain, SweepError, read_sweep_file

RuntimeEnv = Mapping[str, Plain]
"""A runtime environment of Ray, keyed by its field names."""

ALLOWED = ("pip", "uv", "conda", "image_uri", "container", "py_modules", "env_vars", "config")
"""The keys of a file. Ray checks what is below them."""
TAKEN = {
    "working_dir": "submit sends this code as the working folder",
    "excludes": "submit chooses the files that it sends",
}
TAKEN_VARIABLES = {
    "RAY_AUTH_MODE": "--auth",
    "RAY_USAGE_STATS_ENABLED": "submit itself",
    "MLFLOW_TRACKING_URI": "--tracking-uri",
}


def read_runtime_env(path: Path) -> dict[str, Plain]:
    """Read a YAML or JSON file. Raises ``SweepError``, in one line that names file and key."""
    try:
        entries = read_sweep_file(path)
        for key in entries:
            if key in TAKEN:
                raise SweepError(f"{key} cannot be set here: {TAKEN[key]}; allowed: {', '.join(ALLOWED)}")
            if key not in ALLOWED:
                raise SweepError(f"{shown(key)} is not known; allowed: {', '.join(ALLOWED)}")
        variables = entries.get("env_vars", {})
        if not isinstance(variables, dict):
            raise SweepError(f"env_vars is {shown(variables)}; allowed: a mapping of names to texts")
        for name, value in variables.items():
            if name in TAKEN_VARIABLES:
                raise SweepError(f"env_vars.{name} cannot be set here: it is set by {TAKEN_VARIABLES[name]}")
            if not isinstance(value, str):
                raise SweepError(f"env_vars.{name} is {shown(value)}; allowed: a text, such as '{value}' in quotes")
    except SweepError as error:
        raise SweepError(f"--runtime-env {path}: {error}") from None
    return entries


def read_secrets(names: Sequence[str]) -> dict[str, str]:
    """Return the values of these variables of the shell. Raises ``SweepError`` if one is missing."""
    for name in names:
        if name in TAKEN_VARIABLES and name != "MLFLOW_TRACKING_URI":
            raise SweepError(f"--env {name} cannot be sent: it is set by {TAKEN_VARIABLES[name]}")
        if not os.environ.get(name):
            state = "empty" if name in os.environ else "not set"
            raise SweepError(f"--env is {name!r}, which is {state} in this shell; allowed: the name of a variable")
    return {name: os.environ[name] for name in names}


def merged(theirs: RuntimeEnv, folder: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return Ray's runtime environment: that of the user's file, this working folder and these variables."""
    own = theirs.get("env_vars", {})
    assert isinstance(own, dict)  # noqa: S101 - read_runtime_env checked it
    return {**theirs, "working_dir": folder, "env_vars": {**own, **variables}}


def shown_secrets(theirs: RuntimeEnv) -> list[str]:
    """Return the variables of a file that look like secrets by their names. Ray shows them with the job."""
    own = theirs.get("env_vars", {})
    return [name for name in own if names_a_secret(name)] if isinstance(own, dict) else []
