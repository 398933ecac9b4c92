"""``kvcomm explore``: the notebook runs from top to bottom, and its server asks for a token."""

import http.cookiejar
import importlib.util
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from typer.testing import CliRunner

from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig
from sweeps.cli import app, missing_packages
from sweeps.explore_server import ExploreError, serve_notebook

needs_marimo = pytest.mark.skipif(
    importlib.util.find_spec("marimo") is None,
    reason="needs Marimo, the extra explore: pip install --no-deps --require-hashes -r constraints-pages.txt",
)


@pytest.fixture
def results(tmp_path, make_result):
    from made_up import write_results

    specs = [TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig(gamma=0.1))]
    return write_results(tmp_path / "results", *(make_result(spec, samples=4) for spec in specs))


@needs_marimo
@pytest.mark.slow
def test_the_notebook_runs(results):
    """Catches a cell that fails, one that uses a name of a later version, and tables that are not the results'."""
    sys.argv, before = ["notebook", "--results", str(results)], sys.argv
    try:
        from analysis.explore.notebook import app as notebook

        outputs, names = notebook.run()
    finally:
        sys.argv = before
    assert len(outputs) == 8
    assert list(names["cells"]["arm"]) == ["dense", "kvcomm"]
    assert names["picture"].startswith(b"\x89PNG")
    assert names["shown"] == 2
    assert [one.name for one in names["drawn"]] == ["accuracy_ttft"]


def served(results, *options):
    """Start the command; return its process and the address that it says."""
    command = [sys.executable, "-m", "sweeps.cli", "explore", str(results), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TERM": "dumb"})
    return server, server.stdout.readline().split()[0]


@needs_marimo
@pytest.mark.slow
def test_the_server_asks_for_its_token(results, tmp_path):
    """Catches a page that anybody on the machine can open, one that other machines can reach, a token in the arguments
    of a process, and a server that outlives the command."""
    server, address = served(results)
    try:
        base, _, token = address.partition("/?access_token=")
        assert base.startswith("http://127.0.0.1:")
        assert len(token) > 20
        with urllib.request.urlopen(base, timeout=30) as page:
            assert "/auth/login" in page.url, "without the token there is only a place to enter it"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/api/status", timeout=30)
        assert refused.value.code in (401, 403)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        with opener.open(address, timeout=30) as page:
            assert page.status == 200
            assert "/auth/login" not in page.url
            assert "kvcomm explore" in page.read().decode()
        arguments = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert token not in arguments
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(base, timeout=5)


@needs_marimo
@pytest.mark.slow
def test_a_notebook_of_ones_own(results, tmp_path):
    """Catches a notebook that is not made, and one that is made anew over the user's changes."""
    own = tmp_path / "mine" / "notebook.py"
    for _ in range(2):
        server, address = served(results, "--notebook", str(own))
        try:
            assert "/?access_token=" in address
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
        assert own.read_text().startswith('"""The notebook of') or own.read_text().endswith("# mine\n")
        own.write_text(own.read_text() + "# mine\n")
    assert own.read_text().count("# mine\n") == 2


def test_bad_input_is_one_line(results, tmp_path, monkeypatch):
    """Catches a traceback where Marimo, results, or a fitting name of a notebook are missing."""
    with pytest.raises(ExploreError, match=r"--notebook is mine\.txt; allowed: a file that ends in \.py"):
        serve_notebook(results, None, tmp_path.__class__("mine.txt"), print)
    monkeypatch.setattr(missing_packages.importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["explore", str(results)])
    assert done.exit_code == 2
    assert done.stderr.startswith("kvcomm: kvcomm explore needs marimo, not installed here: pip install")
    assert "kvcomm-harness[explore]" in done.stderr
    monkeypatch.setattr(missing_packages.importlib.util, "find_spec", lambda name: object())
    done = CliRunner().invoke(app, ["explore", str(tmp_path / "absent")])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
