"""Connections to clusters, one after another in one process: with the token that each asks for, and with none."""

import os
import tempfile
from pathlib import Path

import pytest
import ray_head

ray = pytest.importorskip("ray")

from ray._private import ray_constants  # noqa: E402

from sweeps.language.strict_yaml import SweepError  # noqa: E402
from sweeps.run.own_cluster import LOOPBACK  # noqa: E402
from sweeps.run.ray_connection import Connection, connected  # noqa: E402


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """The GCS of a head that asks for a token, the file with the token, and the GCS of a head that asks for none."""
    token = ray_head.token_file(tmp_path_factory.mktemp("head"))
    with (
        ray_head.ray_head("token", dashboard=False, RAY_AUTH_TOKEN_PATH=str(token)) as closed,
        ray_head.ray_head("disabled", dashboard=False) as disabled,
    ):
        yield closed.gcs_address, token, disabled.gcs_address


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder, and an environment that says nothing about Ray."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # else Ray looks for loopback on the network
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def ray_variables():
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


def fail_on_a_cluster_of_its_own(place):
    with connected() as connection:
        assert connection == Connection(grows=False)
        assert ray.get_runtime_context().gcs_address.startswith(LOOPBACK)
        assert "RAY_AUTH_TOKEN" not in os.environ
        assert any(place.rglob("raylet.out"))
        raise ZeroDivisionError


@ray.remote(num_cpus=0)
def add(a, b):
    """Call a plug-in, which lies where the cluster does not look."""
    import sent_along  # type: ignore[import-not-found]

    return sent_along.add(a, b)


@pytest.mark.slow
@pytest.mark.ray
def test_one_process_connects_to_one_cluster_after_another(heads, home, monkeypatch):
    """Catches a token or a mode that stays from one cluster to the next, a token that is made or not found, one that is
    sent to a head that asks for none, an open head about which nothing is said, and folders of Ray that stay after a
    sweep on a cluster of its own that failed; and a plug-in that does not reach the replicas."""
    closed, token, disabled = heads
    plug_in = home / "plug-ins" / "sent_along.py"
    plug_in.parent.mkdir()
    plug_in.write_text("def add(a, b):\n    return a + b\n")

    def join(address):
        monkeypatch.setenv("RAY_ADDRESS", address)
        before = ray_variables()
        with connected([plug_in]) as connection:
            assert ray.get(add.remote(1, 2)) == 3
        assert ray_variables() == before
        return connection

    for variables in (
        {},
        {"RAY_AUTH_TOKEN": "b" * 64},
        {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": str(token)},
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setenv("RAY_ADDRESS", closed)
            with (
                pytest.raises(SweepError, match="the cluster there wants a token that is not ours; allowed: "),
                connected(),
            ):
                pass

    assert join(disabled) == Connection(
        grows=True,
        warning=f"the Ray cluster at {disabled} asks for no token: anybody who reaches it may run commands on it",
    )
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        assert join(closed) == Connection(grows=True)
    assert list(home.iterdir()) == [plug_in.parent]

    monkeypatch.delenv("RAY_ADDRESS")
    with tempfile.TemporaryDirectory(prefix="kvcomm-", dir="/tmp") as place:  # a short path, as sockets need
        monkeypatch.setenv("RAY_TMPDIR", place)
        before = ray_variables()
        with pytest.raises(ZeroDivisionError):
            fail_on_a_cluster_of_its_own(Path(place))
        assert ray_variables() == before
        assert not ray.is_initialized()
        assert [path.name for path in Path(place).rglob("*") if not path.is_dir()] == [".lock"]
        monkeypatch.delenv("RAY_TMPDIR")
    assert not (home / ".ray").exists()

    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(token.read_text())
    assert join(closed) == Connection(grows=True)
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", token.read_text())
        assert join(closed) == Connection(grows=True)
    assert (home / ".ray" / "auth_token").read_text() == token.read_text()


def test_nobody_answers(home, monkeypatch):
    """Catches minutes of waiting, and a traceback of Ray."""
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{ray_head.free_port()}")
    with (
        pytest.raises(SweepError, match=r"^RAY_ADDRESS is '127.0.0.1:\d+'; no Ray cluster answers there: "),
        connected(),
    ):
        pass
