"""Secrets of a job: values of environment variables that no record, log line or list of jobs shows.

``kvcomm submit --env NAME`` puts them into a file beside the packages that it sends. Ray shows the variables of a job
to everybody who may list its jobs, and writes them to its logs, but not the content of files.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from harness.redaction import hide

SECRETS_FILE = "job-secrets.json"
_PACKAGES = Path(__file__).resolve().parents[1]


def write_secrets(folder: Path, values: Mapping[str, str]) -> None:
    """Write the file into the folder with the packages, closed to other users. ``values`` are keyed by variable."""
    path = folder / SECRETS_FILE
    path.touch(mode=0o600)
    path.write_text(json.dumps(dict(values)), encoding="utf-8")


def take_secrets(folder: Path = _PACKAGES) -> None:
    """Set the variables of the file, if there is one, for this process, and hide their values from then on.

    Call it before the libraries that read the variables are imported.
    """
    path = folder / SECRETS_FILE
    if path.is_file():
        values: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        os.environ.update(values)
        hide(*values.values())
