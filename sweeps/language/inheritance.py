"""The layers of a sweep: a file over the one it extends, a profile over both, the command line over all.

An entry of a higher layer replaces the entry of that name. It replaces a trial field wherever the field appears: at the
top, under ``grid``, in a ``zip``, in the rows of ``list`` or under ``random``. The other fields there stay. It replaces
``zip``, ``list``, ``random``, ``exclude`` and ``profiles`` as a whole.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from kvcomm_core.config import shown
from sweeps.language.combinations import read_axes
from sweeps.language.exclusion import read_rules
from sweeps.language.fields import import_plug_ins
from sweeps.language.named_files import relative_to_here
from sweeps.language.strict_yaml import MAX_KEY, Plain, SweepError, parse, read_sweep_file

LISTS = ("skip_if_missing", "take_from", "exclude")
"""Entries whose own value is a list, which makes no axis."""

RANDOM_SETTINGS = ("random.samples", "random.seed")
"""Entries of ``random`` that a higher layer may replace individually."""


class Layers:
    """The entries of a sweep after merging the layers so far."""

    def __init__(self, entries: dict[str, Plain]) -> None:
        """Start with the ``entries`` of the lowest layer."""
        self.entries = entries
        self.replaced: set[str] = set()
        """Trial fields set by layers above the layer of ``exclude``."""

    def add(self, layer: dict[str, Plain]) -> None:
        """Merge the entries of a file or profile over the present ones."""
        for key, value in layer.items():
            if key != "exclude":
                self.put(key, value)
        if "exclude" in layer:  # its rules name this layer's fields
            self.put("exclude", layer["exclude"])

    def put(self, key: str, value: Plain) -> None:
        """Merge one entry over the present ones. A trial field with a list of values becomes an axis of the grid.

        ``workload.limit`` also replaces ``limit`` in a ``workload`` mapping, and ``workload`` replaces all
        ``workload.*``. Seeds come from a list of values or from ``repeats``; each replaces the other.
        """
        _, _, leaf = key.partition(".")
        random = self.entries.get("random")
        if key in RANDOM_SETTINGS and isinstance(random, dict):
            random[leaf] = value
        elif key == "grid" and isinstance(value, dict):
            for field, values in value.items():
                self._put_axis(field, values)
        elif key in ("grid", "zip", "list", "random"):
            self.entries.pop(key, None)
            for field in _fields(key, value):
                self._make_way(field)
            self.entries[key] = value
        elif isinstance(value, list) and key not in LISTS:
            self._put_axis(key, value)
        else:
            if key == "exclude":
                self.replaced.clear()
            elif key == "repeats":
                self._drop_axes("seed")
            self.replaced.add(key)
            self._drop(key)
            self.entries[key] = value

    def _put_axis(self, field: str, values: Plain) -> None:
        self._make_way(field)
        grid = self.entries.setdefault("grid", {})
        if not isinstance(grid, dict):
            grid = self.entries["grid"] = {}
        grid[field] = values

    def _make_way(self, field: str) -> None:
        """Drop ``field``, because an axis is about to set it."""
        self.replaced.add(field)
        self._drop(field)
        if field == "seed":
            self.entries.pop("repeats", None)

    def _drop(self, key: str) -> None:
        _drop_from(self.entries, key)
        self._drop_axes(key)

    def _drop_axes(self, key: str) -> None:
        for section in ("grid", "zip", "list", "random"):
            places = _places(section, self.entries.get(section))
            emptied = [place for place in places if _drop_from(place, key) and not place]
            if emptied and not any(places):
                del self.entries[section]


def load_layers(path: Path) -> tuple[Layers, list[Path]]:
    """Load a file merged over the files it extends. Also return the files it extends, nearest first.

    Raises ``SweepError`` if a file cannot be read, or the chain has no end.
    """
    files, documents = [path], [_read_document(path)]
    while "extends" in documents[-1]:
        given = documents[-1].pop("extends")
        if not isinstance(given, str) or not given.strip():
            raise SweepError(f"extends is {shown(given)}; allowed: the path of a sweep file, relative to this one")
        base = files[-1].parent / given
        if os.path.realpath(base) in map(os.path.realpath, files):
            chain = " -> ".join(file.name for file in [*files, base])
            raise SweepError(f"extends is {shown(given)}, which goes in a circle: {shown(chain)}; allowed: no circles")
        try:
            documents.append(_read_document(base))
        except SweepError as error:
            raise SweepError(f"extends is {shown(given)}: {error}") from None
        files.append(base)
    if len(files) > 1 and "name" not in documents[0]:
        raise SweepError("name is missing; a file that extends another has a name, and so a results folder, of its own")
    layers = Layers(documents.pop())
    for document in reversed(documents):
        layers.add(document)
    layers.replaced.discard("name")
    return layers, files[1:]


def choose_profile(layers: Layers, name: str | None) -> None:
    """Replace ``profiles`` by the entries of the profile ``name``.

    A profile may extend another one of the file, which then comes first. A file with profiles requires a name, and a
    file without them accepts none. Raises ``SweepError``.
    """
    if "profiles" not in layers.entries:
        if name is not None:
            raise SweepError(f"--profile is {shown(name)}; this sweep has no profiles")
        return
    profiles = layers.entries.pop("profiles")
    if not isinstance(profiles, dict) or not profiles:
        raise SweepError(f"profiles is {shown(profiles)}; allowed: a mapping of names to entries")
    for known, profile in profiles.items():
        if not isinstance(profile, dict) or not profile:
            raise SweepError(f"profiles.{known} is {shown(profile)}; allowed: a mapping of entries")
        for key in ("grid", "profiles"):
            if key in profile:
                raise SweepError(f"profiles.{known}.{key} is given; in a profile, a list of values makes an axis")
    if name is None:
        raise SweepError(f"no profile is chosen; allowed: --profile {' or '.join(profiles)}")
    if name not in profiles:
        raise SweepError(f"--profile is {shown(name)}; allowed: {', '.join(profiles)}")
    for profile in reversed(_chain(profiles, name)):
        _check_document(profile)
        layers.add(profile)


def _chain(profiles: dict[str, Plain], name: str) -> list[dict[str, Plain]]:
    """Return the entries of a profile and of those that it extends, nearest first, without ``extends``."""
    names, chain = [name], []
    while True:
        profile = profiles[names[-1]]
        assert isinstance(profile, dict)  # noqa: S101 - checked before
        chain.append({key: value for key, value in profile.items() if key != "extends"})
        if "extends" not in profile:
            return chain
        base = profile["extends"]
        others = [other for other in profiles if other not in names]
        if not isinstance(base, str) or base not in others:
            allowed = ", ".join(others) or "no profile, as there is no other"
            raise SweepError(f"profiles.{names[-1]}.extends is {shown(base)}; allowed: {allowed}")
        names.append(base)


def parse_override(override: str) -> tuple[str, Plain]:
    """Split ``agents=[2, 3]`` into a key and a value, and read the value as YAML. Raises ``SweepError``."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise SweepError(f"--set is {shown(override)}; allowed: key=value")
    try:
        return key, parse(text)
    except SweepError as error:
        raise SweepError(f"--set {key if key.isprintable() and len(key) <= MAX_KEY else shown(key)}: {error}") from None


def _read_document(path: Path) -> dict[str, Plain]:
    document = relative_to_here(read_sweep_file(path), path.parent)
    assert isinstance(document, dict)  # noqa: S101 - as it was
    _check_document(document, ("profiles", "extends"))
    return document


def _check_document(document: dict[str, Plain], also: Sequence[str] = ()) -> None:
    """Check one layer for mistakes before another layer replaces parts of it."""
    import_plug_ins(document)  # their fields are names, too
    read_axes(document, also)
    read_rules(document.get("exclude", []))


def _places(section: str, value: Plain) -> list[dict[str, Plain]]:
    """Return the mappings of trial fields in a section, or none if the section is malformed."""
    if section == "random":
        value = value.get("fields") if isinstance(value, dict) else None
    candidates = value if isinstance(value, list) else [value]
    return [place for place in candidates if isinstance(place, dict)]


def _fields(section: str, value: Plain) -> list[str]:
    return [field for place in _places(section, value) for field in place]


def _drop_from(place: dict[str, Plain], key: str) -> bool:
    """Remove ``key`` and its sub-keys from a mapping of trial fields. Return whether it removed an entry."""
    given = [name for name in place if name == key or name.startswith(f"{key}.")]
    for name in given:
        del place[name]
    head, _, leaf = key.partition(".")
    if leaf:
        _drop_leaf(place.get(head), leaf)
    return bool(given)


def _drop_leaf(value: Plain, leaf: str) -> None:
    """Remove ``limit`` from ``workload: {...}``, whether a single value, a list's item or a choice of ``random``."""
    for mapping in value if isinstance(value, list) else [value]:
        if isinstance(mapping, dict):
            mapping.pop(leaf, None)
            _drop_leaf(mapping.get("choice"), leaf)
