"""Faults that checks find in a method."""

import sysconfig
import traceback
from pathlib import Path

import torch
import transformers

import kvcomm_core
from kvcomm_core.config import one_line, shown

_ENGINE = Path(kvcomm_core.__file__).parent
_KIT = Path(__file__).parent
_LIBRARIES = tuple(Path(str(package.__file__)).parent for package in (torch, transformers))
_STANDARD = Path(sysconfig.get_path("stdlib"))
_INSTALLED = Path(sysconfig.get_path("purelib"))


class Finding(Exception):  # noqa: N818 - it is what a check looks for
    """A method breaks what a check asks for."""

    def __init__(self, where: str, *, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where, self.expected, self.found = where, expected, found


def finding_of(error: BaseException) -> Finding:
    """Describe an exception that a method raised, with the file and line of its own code where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_elsewhere(Path(frame.filename))]
    engine = [frame for frame in frames if _is_engine(Path(frame.filename))]
    frame = (own or engine or list(frames))[-1]
    where = f"{_short(Path(frame.filename))}:{frame.lineno}, in {frame.name}"
    text = one_line(error)
    found = type(error).__name__ + (f": {shown(text)[1:-1]}" if text else "")
    return Finding(where, expected="no exception", found=found)


def _is_elsewhere(path: Path) -> bool:
    """Return whether a file is neither part of the engine nor of the libraries below it."""
    if any(path.is_relative_to(folder) for folder in (_ENGINE, *_LIBRARIES)):
        return False
    return path.is_relative_to(_INSTALLED) or not path.is_relative_to(_STANDARD)


def _is_engine(path: Path) -> bool:
    return path.is_relative_to(_ENGINE) and not path.is_relative_to(_KIT)


def _short(path: Path) -> str:
    """Return the path as seen from the current folder, if it lies there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
