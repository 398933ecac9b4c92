"""The folder of a cluster of our own: private, and short enough for the names of sockets."""

import os

import pytest

from sweeps.language.strict_yaml import SweepError
from sweeps.run.cluster_folder import LONGEST, cluster_folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("sweeps.run.cluster_folder.LONGEST", 1000)
    return tmp_path / f"kvcomm-ray-{os.geteuid()}"


def test_the_folder_comes_and_goes(place, monkeypatch):
    """Catches a folder that others can enter or that stays, and one that is removed while another run uses it."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with cluster_folder() as first:
        (first / "session").mkdir()
        with cluster_folder() as second:
            assert first.parent == second.parent == place
        assert not second.exists()
        assert (first / "session").is_dir()
        assert {path.stat().st_mode & 0o077 for path in (place, first)} == {0}
    assert [path.name for path in place.iterdir()] == [".lock"]


def test_a_folder_that_somebody_else_may_enter_is_refused(place, monkeypatch, tmp_path):
    """Catches sockets and logs in a folder that somebody else has put there, or that a link leads to."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    with (
        pytest.raises(SweepError, match="not a folder of this user alone, with mode 0700; RAY_TMPDIR"),
        cluster_folder(),
    ):
        pass
    place.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place.symlink_to(elsewhere)
    with pytest.raises(SweepError, match="not a folder of this user alone"), cluster_folder():
        pass
    assert list(elsewhere.iterdir()) == []


def test_a_long_temporary_folder_is_left_alone(tmp_path, monkeypatch):
    """Catches sockets whose names the kernel refuses."""
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", None)
    with cluster_folder() as folder:
        assert len(f"{folder}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store") <= 107
        assert len(str(folder)) <= LONGEST
    assert list(long.iterdir()) == []
