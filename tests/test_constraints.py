"""constraints.txt: the tested versions, whose hashes are checked when they are installed.

These tests would catch a package without a hash, a torch among those whose build is the same everywhere, a package
that pyproject.toml asks for and nothing pins, a version outside of its range, and commands that name different torches.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TORCH = "torch"


@pytest.fixture(scope="module")
def pins() -> dict[str, tuple[str, list[str]]]:
    """By package: its version and the hashes of its files."""
    return pins_of("constraints.txt")


@pytest.fixture(scope="module")
def pins_of_pages() -> dict[str, tuple[str, list[str]]]:
    """The same of the extras that setup leaves out."""
    return pins_of("constraints-pages.txt")


def pins_of(name: str) -> dict[str, tuple[str, list[str]]]:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    requirements = [(Requirement(line.split(" --hash")[0]), re.findall(r"--hash=(\S+)", line)) for line in lines]
    assert all(len(requirement.specifier) == 1 for requirement, _ in requirements)
    return {
        canonicalize_name(requirement.name): (next(iter(requirement.specifier)).version, hashes)
        for requirement, hashes in requirements
    }


PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LATER = ("explore", "docs")
"""Extras that setup leaves out."""


@pytest.fixture(scope="module")
def asked_for() -> list[Requirement]:
    extras = [line for name, lines in PROJECT["optional-dependencies"].items() if name not in LATER for line in lines]
    return [Requirement(line) for line in (*PROJECT["dependencies"], *extras)]


def test_the_extras_that_setup_leaves_out(
    pins: dict[str, tuple[str, list[str]]], pins_of_pages: dict[str, tuple[str, list[str]]]
) -> None:
    """Catches a package of theirs that nothing pins, and one that would replace the version that all else is tested
    with."""
    for requirement in [Requirement(line) for name in LATER for line in PROJECT["optional-dependencies"][name]]:
        assert requirement.specifier.contains(pins_of_pages[canonicalize_name(requirement.name)][0]), requirement
        assert canonicalize_name(requirement.name) not in pins, "setup would fetch it"
    shared = {name: (pins[name][0], pins_of_pages[name][0]) for name in pins.keys() & pins_of_pages.keys()}
    assert [name for name, (one, other) in shared.items() if one != other] == []


def test_every_package_but_torch_has_hashes(
    pins: dict[str, tuple[str, list[str]]], pins_of_pages: dict[str, tuple[str, list[str]]]
) -> None:
    assert TORCH not in pins.keys() | pins_of_pages.keys()
    for package, (_, hashes) in [*pins.items(), *pins_of_pages.items()]:
        assert hashes, package
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), package


def test_what_the_project_asks_for_is_pinned_within_its_range(
    pins: dict[str, tuple[str, list[str]]], asked_for: list[Requirement]
) -> None:
    for requirement in asked_for:
        name = canonicalize_name(requirement.name)
        if name != TORCH:
            assert name in pins, "no version of it is tested"
            assert requirement.specifier.contains(pins[name][0]), name


def test_every_command_installs_the_same_torch() -> None:
    named = {
        version
        for file in ("Makefile", "README.md", "sweeps/cluster/Dockerfile")
        for version in re.findall(r"torch==([\d.]+\d)", (ROOT / file).read_text(encoding="utf-8"))
    }
    assert len(named) == 1
