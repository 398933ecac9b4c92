"""The wheel, and who only reads results: what is in it, and which commands do with the packages that it asks for.

The wheel is built from a copy of the source tree, and installed beside links to the packages of pyproject.toml's
``dependencies`` and of what these ask for in turn. No other package can be imported.
"""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from made_up import make_result, write_results
from packaging.requirements import Requirement

from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig
from sweeps.cli.missing_packages import OF_EXTRA

__all__ = ["make_result"]

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FLOORS = ("kvcomm_core", "harness", "analysis", "sweeps")
LISTED = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
FOR_READERS = (
    "analysis/embedded/",
    "analysis/embedded_arena/",
    "analysis/notebooks/",
    "analysis/pictures/",
    "sweeps/cluster/",
)
"""Folders that no command reads."""


def test_the_extra_is_what_the_message_names():
    """Catches a package that moves into the extra, or out of it, and a command that then ends with a traceback."""
    asked_for = {Requirement(line).name.replace("-", "_") for line in PROJECT["optional-dependencies"]["run"]}
    assert asked_for == set(OF_EXTRA)


def closure(names: list[str]) -> dict[str, metadata.Distribution]:
    """The installed packages of these names, and those that they ask for in turn."""
    found: dict[str, metadata.Distribution] = {}
    todo = [Requirement(name) for name in names]
    while todo:
        wanted = todo.pop()
        if wanted.name.lower() in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[wanted.name.lower()] = distribution = metadata.distribution(wanted.name)
        todo += [Requirement(line) for line in distribution.requires or []]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run([*LISTED, *FLOORS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in [*tracked.splitlines(), "pyproject.toml", "README.md", "LICENSE"]:
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(folder / "source")], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built, set(tracked.splitlines())


@pytest.mark.slow
def test_the_wheel_has_all_that_commands_read(wheel):
    """Catches a prompt, a sweep file or a page that is in the source tree alone, so that only its authors have it."""
    built, tracked = wheel
    with zipfile.ZipFile(built) as archive:
        packed = set(archive.namelist())
    needed = {name for name in tracked if not name.startswith(FOR_READERS) and not name.endswith(".md")}
    assert {name for name in needed if (ROOT / name).exists()} <= packed
    assert {"sweeps/smoke.yaml", "sweeps/paper/table_1.yaml", "harness/agents/recall/reader.txt"} <= packed


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Two folders for PYTHONPATH: the wheel's content, and links to the packages that it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel[0]) as archive:
        archive.extractall(folder / "wheel")
    (folder / "packages").mkdir()
    for distribution in closure(PROJECT["dependencies"]).values():
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = folder / "packages" / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).absolute())
    return folder / "wheel", folder / "packages"


@pytest.fixture
def kvcomm(installed, tmp_path):
    def run(*arguments):
        environment = {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(map(str, installed))}
        command = [sys.executable, "-S", "-m", "sweeps.cli", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_results_are_read_without_the_packages_that_run_trials(kvcomm, tmp_path, make_result):
    """Catches an import of torch, Ray, MLflow or another package of the extra where results are read."""
    specs = [TrialSpec(), TrialSpec(method="kvcomm", parameters=KVCommConfig())]
    write_results(tmp_path / "a", *map(make_result, specs))
    write_results(tmp_path / "b", *map(make_result, specs))
    (tmp_path / "a" / "s" / "sweep.yaml").write_text("name: s\ngrid: {method: [dense, kvcomm]}\n", encoding="utf-8")
    for arguments, said in (
        (("show", "a"), "kvcomm"),
        (("status", "a"), "2"),
        (("figures", "a", "--out", "drawn"), "drawn"),
        (("report", "a", "--out", "page.html"), "page.html"),
        (("compare", "a", "b"), "kvcomm"),
        (("claims", "a"), "undecided"),
        (("export-trace", "a", "log.jsonl", "--trial", specs[0].trial_id), "6 calls"),
        (("potential", "log.jsonl"), "An exact prefix cache saves"),
        (("list",), "kvcomm"),
        (("schema",), "A sweep file of kvcomm"),
        (("new", "method", "mine"), "mine/method_mine.py"),
        (("--version",), "kvcomm"),
    ):
        done = kvcomm(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert said in done.stdout


@pytest.mark.slow
def test_what_needs_the_other_packages_says_so(kvcomm, tmp_path):
    """Catches a traceback where the extra is missing, and a command that first writes half of its files."""
    (tmp_path / "sweep.yaml").write_text("name: s\nmodel: some/model\n", encoding="utf-8")
    run = ("run", "sweep.yaml")
    for arguments in (run, (*run, "--in-process"), ("plan", "sweep.yaml"), ("demo",), ("ui", "a")):
        done = kvcomm(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"kvcomm: kvcomm {arguments[0]} needs ")
        assert "pip install 'kvcomm-harness[run]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]
