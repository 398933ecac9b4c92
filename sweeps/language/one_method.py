"""One method, named as in a sweep file, with parameters that are set as ``--set`` sets them."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.methods import parameters_key
from kvcomm_core.config import MethodConfig, one_line, shown
from sweeps.language.fields import method_type, names_of, refuse_name
from sweeps.language.inheritance import parse_override
from sweeps.language.strict_yaml import Plain, SweepError
from sweeps.language.trial_building import validated


def read_method(path: str, overrides: Sequence[str] = ()) -> MethodConfig:
    """Return the parameters of a method. ``path`` is its name, ``module:Class`` or ``file.py:Class``; modules may lie
    in the current folder. ``overrides`` are ``NAME.FIELD=value``. Raises ``SweepError``."""
    name = _importable(path)
    record, key = method_type(name), parameters_key(name)
    fields: dict[str, Plain] = {}
    known = [f"{key}.{field}" for field in names_of(record)]
    for override in overrides:
        given, value = parse_override(override)
        if given not in known and not known:
            raise SweepError(f"--set {given} is given, but {path} has no parameters")
        if given not in known:
            refuse_name(given, known, f"a parameter of {path}")
        fields[given.partition(".")[2]] = value
    try:
        return validated(record, fields, f"{key}.")
    except SweepError:
        raise
    except Exception as error:  # noqa: BLE001 - pydantic, or the class itself, may refuse it with anything
        raise SweepError(f"method is {shown(path)}, whose parameters cannot be read: {one_line(error)[:300]}") from None


def _importable(path: str) -> str:
    """Return the name under which the method can be imported, and make its folder known to Python."""
    file, _, attribute = path.rpartition(":")
    if not file.endswith(".py"):
        sys.path.append(str(Path.cwd()))  # the command `kvcomm` does not look there by itself
        return path
    found = Path(file).resolve()
    if not found.is_file():
        raise SweepError(f"method is {shown(path)}; {file} is no file; allowed: a name, module:Class or file.py:Class")
    if not found.stem.isidentifier():
        raise SweepError(f"method is {shown(path)}; a file's name without .py must be a name of Python, as in echo.py")
    sys.path.insert(0, str(found.parent))
    importlib.invalidate_caches()
    taken = sys.modules.get(found.stem)
    if taken is not None and Path(getattr(taken, "__file__", None) or "").resolve() != found:
        raise SweepError(
            f"method is {shown(path)}; the module name {found.stem!r} is taken; allowed: another file name"
        )
    return f"{found.stem}:{attribute}"
