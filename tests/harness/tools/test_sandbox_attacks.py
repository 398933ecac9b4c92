"""The sandbox under attack: every attack is contained, by each layer that claims to, and is real without them.

All attacks run with all layers, as every kind of user, and with the harness itself in bubblewrap and not. Those that
name their guards, the layers of which each alone contains them, also run once for each guard without the other ones,
and once without any of them, where they must succeed, which shows that the other runs could fail.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import sandbox_attacks
from sandbox_attacks import ATTACKS, DANGEROUS_CALLS, SITE, Target, attack, made_target

from harness.tools.sandbox.jail.layers import is_safe
from harness.tools.sandbox.python_sandbox import active_layers

ACTIVE = active_layers()
IS_ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[3]
SUPPORT = Path(sandbox_attacks.__file__).parent


@pytest.fixture
def target(name: str) -> Iterator[Target]:
    with made_target(has_victim="VICTIM" in ATTACKS[name].code) as made:
        yield made


def test_there_are_enough() -> None:
    """Catches a table that loses its rows."""
    assert len(ATTACKS) + len(DANGEROUS_CALLS) >= 180


@pytest.mark.parametrize(
    ("user", "place"),
    [
        ("ordinary user", "in bubblewrap"),
        pytest.param("root", "outside bubblewrap", marks=pytest.mark.slow),
        pytest.param("root", "in bubblewrap", marks=pytest.mark.slow),
        pytest.param("ordinary user", "outside bubblewrap", marks=pytest.mark.slow),
    ],
)
def test_all_contained(user: str, place: str) -> None:
    """Catches a machine called safe on which an attack succeeds, whoever the user is and whatever is around us."""
    if not is_safe(ACTIVE):
        pytest.skip(f"this machine is not called safe; it has {', '.join(ACTIVE)}")
    completed = subprocess.run(_command(user, place), env=_environment(user), capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    report = json.loads(completed.stdout)
    assert report["escaped"] == {}
    assert is_safe(report["layers"])
    assert report["tried"] == len(ATTACKS) + len(DANGEROUS_CALLS)
    assert report["is_root"] is (user == "root")


def _command(user: str, place: str) -> list[str]:
    """The command that runs all attacks as ``user``."""
    if user == "root" and not IS_ROOT:
        pytest.skip("only root can run them as root")
    becomes_other = IS_ROOT and user != "root"
    python, repository = sys.executable, str(REPOSITORY)
    become: list[str] = []
    if becomes_other:
        become = [sys.executable, str(SUPPORT / "as_ordinary_user.py")]
        python, repository = f"PYTHON/bin/python{sysconfig.get_python_version()}", "REPOSITORY"
    bubblewrap: list[str] = []
    if place == "in bubblewrap":
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is not installed (Debian package bubblewrap)")
        bubblewrap = ["bwrap", "--dev-bind", "/", "/", *(["--cap-add", "ALL"] if user == "root" else []), "--"]
    tests = Path(repository, SUPPORT.relative_to(REPOSITORY))
    return [*become, *bubblewrap, python, str(tests / "sandbox_attacks.py")]


def _environment(user: str) -> dict[str, str]:
    repository = "/mnt/REPOSITORY" if IS_ROOT and user != "root" else str(REPOSITORY)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{repository}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}


def guards_here(name: str) -> list[str]:
    """The attack's guards that this machine should have; only root can become another user."""
    return [guard for guard in ATTACKS[name].guards if guard != "uid" or IS_ROOT]


@pytest.mark.parametrize(("name", "guard"), [(name, guard) for name in ATTACKS for guard in guards_here(name)])
def test_contained_by_one_layer(name: str, guard: str, target: Target) -> None:
    """Catches a layer that does not do what ``layers.py`` says of it, hidden behind another one that does."""
    if guard not in ACTIVE:
        pytest.skip(f"this machine has no layer {guard}")
    spec = ATTACKS[name]
    leave_out = tuple(layer for layer in (*spec.guards, *spec.also_without) if layer != guard)
    succeeded, result = attack(name, target, leave_out)
    assert guard in result.layers
    assert not succeeded


@pytest.mark.parametrize("name", [name for name in ATTACKS if ATTACKS[name].guards])
def test_succeeds_without_its_guards(name: str, target: Target) -> None:
    """Catches an attack that tests nothing, because it fails by itself."""
    if ("trace" in name or "descriptor of another" in name) and Path("/proc/sys/kernel/yama/ptrace_scope").exists():
        pytest.skip("this kernel restricts tracing by itself (Yama)")
    if "beside the standard library" in name and not Path(SITE, "pip").exists():
        pytest.skip("this Python has no packages beside its standard library")
    succeeded, result = attack(name, target, (*ATTACKS[name].guards, *ATTACKS[name].also_without))
    assert succeeded, result.stderr
