"""Environment capture: true, quick and free of heavy imports."""

import json
import subprocess
import sys
import time

import pytest

from harness import environment
from harness.environment import MachineLoad, capture_environment, measure_load


def test_capture_is_json_and_true():
    """Catches fields that are made up: each is compared with another source."""
    captured = json.loads(capture_environment().to_json())
    assert captured["python"] == sys.version.split()[0]
    import pyarrow

    assert captured["packages"]["pyarrow"] == pyarrow.__version__
    assert captured["cores"] >= 1
    assert captured["memory_bytes"] > 2**20


@pytest.mark.slow
def test_load_tells_own_work_from_that_of_others():
    """Catches a timing that is said to have been disturbed by itself, and one that is not though it was."""
    before = measure_load()
    while time.process_time() < before.own_cpu_s + 0.3:
        pass
    busy = "import time\nwhile time.process_time() < 0.6: pass"
    alone = measure_load()
    subprocess.run([sys.executable, "-c", busy], check=True)
    disturbed = measure_load()
    assert disturbed.others_since(alone) >= 0.5
    assert alone.own_cpu_s - before.own_cpu_s >= 0.3
    assert MachineLoad(0.0, 10.0, 1.0).others_since(MachineLoad(0.0, 4.0, 0.5)) == 5.5


def test_missing_package_is_none():
    """Catches a version invented for a package that is not installed."""
    assert environment.package_version("kvcomm-no-such-package") is None


def test_no_ledger_is_none(tmp_path, monkeypatch):
    """Catches a failure, or a made-up hash, where the code came without the ledger of claims."""
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "harness" / "environment.py"))
    assert environment._claims_sha256.__wrapped__() is None


def test_git_state(tmp_path, monkeypatch):
    """Catches a stale or borrowed commit: follows a made-up checkout through clean, dirty and untracked."""

    def git(*arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    source = tmp_path / "environment.py"
    source.write_text("")
    monkeypatch.setattr(environment, "__file__", str(source))
    state = environment._git_state.__wrapped__
    assert state() == (None, None)
    git("init", "-q")
    assert state() == (None, None), "installed below somebody else's checkout"
    git("add", ".")
    git("commit", "-qm", "one")
    assert state() == (git("rev-parse", "HEAD"), False)
    source.write_text("changed")
    assert state() == (git("rev-parse", "HEAD"), True)


def test_imports_nothing_heavy():
    """Catches an environment capture that takes seconds."""
    code = "import sys, harness.environment as e; e.capture_environment(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {"torch", "ray", "mlflow", "transformers", "pandas"}.isdisjoint(loaded)
