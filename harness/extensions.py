"""Find what a sweep file names: a built-in, a plug-in that a package announces, or a class or function elsewhere.

Everything that can be named is a *path*, ``module:attribute``. A built-in has a short name for its path. An installed
package gives its own paths short names by entry points (groups ``kvcomm.methods``, ``kvcomm.workloads``,
``kvcomm.graders`` and ``kvcomm.topologies``). Any other path can be named as it is. All three are found in the same
way, and may take the same places.

Importing a path runs its module's code: a sweep file is as trusted as the shell that runs it.
"""

import functools
import hashlib
import importlib
import inspect
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from kvcomm_core.config import one_line


class UnknownNameError(ValueError):
    """Nothing has that name; the message is one line that says what is allowed."""


def find(group: str, name: str, built_in: Mapping[str, str], *, form: str = "module:Class") -> object:
    """Return what ``name`` stands for in ``group``. Raise ``UnknownNameError`` if it stands for nothing.

    A built-in's name cannot be taken by a plug-in. ``form`` is the form of a path in messages.
    """
    if name in built_in:
        return _imported(built_in[name])
    path = announced(group).get(name) or name
    allowed = f"{', '.join(dict.fromkeys([*built_in, *announced(group)]))}, or {form}"
    module, colon, attribute = path.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise UnknownNameError(f"allowed: {allowed}")
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # noqa: BLE001 - a plug-in's module may fail with anything
        raise UnknownNameError(f"it cannot be imported ({one_line(error)}); allowed: {allowed}") from None
    return found


@functools.cache  # a sweep asks some ten times for each of its trials
def _imported(path: str) -> object:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


@functools.cache
def announced(group: str) -> dict[str, str]:
    """Return the paths that installed packages announce in ``group``, by name."""
    return {point.name: point.value for point in sorted(metadata.entry_points(group=f"kvcomm.{group}"))}


def short_name(name: str) -> str:
    """Return the name under which a sweep file sets something's own fields: for a path, the attribute in lower case."""
    return name.rpartition(":")[2].lower()


def version_of(group: str, name: str, built_in: Mapping[str, str]) -> str | None:
    """Return what tells one version of a plug-in from another; None for a built-in.

    This is the version of the package that announces it, else the SHA-256 of its source file.
    """
    if name in built_in:
        return None
    for point in metadata.entry_points(group=f"kvcomm.{group}", name=name):
        if point.dist is not None:
            return f"{point.dist.name} {point.dist.version}"
    found = find(group, name, built_in)
    source = inspect.getsourcefile(found) if inspect.isclass(found) or inspect.isfunction(found) else None
    return None if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]
