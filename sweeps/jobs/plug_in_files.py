"""The files of plug-ins: methods, workloads and whatever else a sweep names as ``module:Class``.

A plug-in that is installed as a package has to be installed on the cluster, too. One that lies beside the sweep file or
in the current folder is sent: its module or whole package, and what has been imported from the same folder. They are
importable on the cluster because they lie in the job's working folder, as this code does.
"""

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from harness.spec import TrialSpec

_OURS = Path(__file__).resolve().parents[2]
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib"))


def plug_in_files(trials: Iterable[TrialSpec]) -> list[Path]:
    """Return the modules and packages that the trials need and that a working folder must hold at its top.

    The sweep has been read, so that the plug-ins are imported.
    """
    modules = {path.partition(":")[0].partition(".")[0] for trial in trials for path in _paths(trial)}
    named = {path for module in modules if (path := _source(module))}
    if not named:
        return []
    folders = {path.parent for path in named}
    imported = {path for module in list(sys.modules) if "." not in module and (path := _source(module))}
    return sorted(named | {path for path in imported if path.parent in folders})


def _paths(trial: TrialSpec) -> Iterator[str]:
    """Yield every ``module:attribute`` of a trial."""
    workload = type(trial.workload)
    yield from (path for path in (workload.runner, workload.shown_by) if path)
    values: list[object] = [trial.to_dict(), trial.workload.name]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value
        elif isinstance(value, str) and _is_path(value):
            yield value


def _is_path(text: str) -> bool:
    module, colon, attribute = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), attribute))


def _source(module: str) -> Path | None:
    """Return the file or folder of a top-level module; None if it is ours, built in or installed."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # such as __main__, which has no spec
        return None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else []))
    if not places:
        return None
    path = Path(places[0]).resolve()
    is_ours = path.parent == _OURS and path.name in ("kvcomm_core", "harness", "sweeps", "analysis")
    installed = any(path.is_relative_to(folder) for folder in _INSTALLED)
    return None if is_ours or installed else path
