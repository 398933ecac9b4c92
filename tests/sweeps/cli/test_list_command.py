"""``kvcomm list``, and sweeps by name."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import sweeps
from harness.methods import BUILT_IN
from harness.workloads import built_in
from sweeps.cli import app, list_command
from sweeps.cli.shipped import FOLDERS, complete_sweep, shipped_sweeps
from sweeps.language.sweep_spec import load_sweep


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def kvcomm(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def listed(*arguments):
    done = kvcomm("list", *arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return {kind: {one["name"]: one["text"] for one in entries} for kind, entries in json.loads(done.stdout).items()}


def test_what_is_listed():
    """Catches a name that is left out, and one that nothing explains."""
    found = listed()
    assert list(found) == ["methods", "workloads", "models", "sweeps"]
    assert {"dense", "prefix", "naive", "cacheblend", "kvcomm"} < found["methods"].keys()
    assert found["workloads"].keys() - {"module:Class"} == built_in().keys()
    assert {"embedded", "coder", "random:llama-3.1-8b"} < found["models"].keys()
    assert found["sweeps"].keys() == shipped_sweeps().keys()
    for entries in found.values():
        assert all(len(text) >= 15 and not text.startswith("#") for text in entries.values()), entries
    assert found["methods"]["naive"].startswith("Reuse every segment's base KV")
    assert "gamma" in found["methods"]["kvcomm"]


def test_fields_have_the_documentation_of_the_code():
    """Catches a field without its string, with that of its neighbour, or with another default than the code's."""
    fields = listed("fields")["fields"]
    assert fields["agents"].startswith("Number of agents, including the decision agent")
    assert fields["agents"].endswith("Default: 3.")
    assert fields["kvcomm.gamma"] == (
        "Method kvcomm. Entropy threshold of the ``entropy_*`` criteria: shareable if H(w) <= gamma * log |A|. 0 to 1. "
        "Default: 0.3."
    )
    assert "workload.limit" in fields
    assert fields["take_from"].endswith("Default: [].")
    entries = json.loads(kvcomm("list", "fields", "--json").stdout)["fields"]
    # Methods and workloads of other tests may have been imported before.
    owners = {*(f"Method {name}" for name in BUILT_IN), *(f"Workload {name}" for name in built_in())}
    texts = [rest.strip() for owner, _, rest in (e["text"].partition(". ") for e in entries) if owner in owners]
    assert len(texts) > 40
    assert all(text and not text.startswith("Default: ") for text in texts)


def test_pages_fit_a_narrow_terminal(monkeypatch):
    """Catches columns that are cut off, or squeezed to one letter a line."""
    monkeypatch.setattr(list_command, "make_console", lambda: Console(width=80))
    for kind in ("methods", "fields", "sweeps"):
        lines = kvcomm("list", kind).stdout.splitlines()
        assert max(map(len, lines)) <= 80
        assert sum(len(line.strip()) < 3 for line in lines) < len(lines) / 4


def test_an_unknown_kind():
    done = kvcomm("list", "nonsense")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "methods" in done.stderr


def test_a_sweep_by_its_name():
    """Catches a name that only works in the source tree, and one that hides a file of the user's."""
    done = kvcomm("plan", "smoke", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["sweep"] == "smoke"
    Path("smoke").mkdir()  # such as a folder of results
    assert kvcomm("plan", "smoke", "--json").exit_code == 0
    Path("cases").write_text("name: mine\nmodel: random:smollm2-135m\n", encoding="utf-8")
    assert json.loads(kvcomm("plan", "cases", "--json").stdout)["sweep"] == "mine"
    done = kvcomm("plan", "smok")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("kvcomm: smok: no such file; did you mean smoke,")


def test_each_shipped_file_has_a_name_of_its_own():
    """Catches two files of one name, of which one could not be reached."""
    root = Path(sweeps.__file__).parent
    assert len(shipped_sweeps()) == sum(len(list((root / folder).glob("*.yaml"))) for folder in FOLDERS)
    assert load_sweep(shipped_sweeps()["search"]).name == "search"


def test_what_a_shell_offers():
    """Catches names, files or folders that are left out, and files that are no sweeps."""
    Path("smaller.yaml").touch()
    Path("small.txt").touch()
    Path("smiles").mkdir()
    assert complete_sweep("sm") == ["smoke", "smaller.yaml", "smiles/"]
    assert complete_sweep("smiles/") == []
    assert "table_1" in complete_sweep("")


def test_version():
    done = kvcomm("--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("kvcomm ")
    assert len(done.stdout.splitlines()) == 1
