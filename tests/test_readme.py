"""README.md: what it shows is what the command prints, and what it names is there.

These tests would catch a table whose columns or rows are of an earlier version, a command or an option that has gone, a
link that leads nowhere, and a page that has grown beyond what anybody reads.
"""

import io
import re
from pathlib import Path

import pytest
from made_up import make_result
from rich.console import Console
from typer.testing import CliRunner

from analysis.results import Results
from analysis.tables.sweep_table import cell_rows, render_cells
from harness.results.parquet_files import ResultsWriter
from sweeps.cli import app
from sweeps.language.sweep_spec import load_sweep

__all__ = ["make_result"]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shape_of(table: str) -> list[list[str]]:
    """The words of each line, with N for every number: measured ones differ from run to run."""
    lines = (re.sub(r"\d[\d.,]*", "N", line).split() for line in table.splitlines())
    return [line for line in lines if line]


def test_the_table_is_the_one_that_the_demo_prints(tmp_path, make_result):
    sweep = load_sweep(ROOT / "sweeps" / "smoke.yaml")
    writer = ResultsWriter(tmp_path, sweep.name)
    for trial in sweep.trials:
        writer.write(make_result(trial, sweep=sweep.name))
    writer.close()
    console = Console(file=io.StringIO(), width=80)
    console.print(render_cells(cell_rows(Results(tmp_path))))
    [shown] = re.findall(r"prints\s+its\s+table:\n\n((?:    .*\n|\n)+)", README)
    assert shape_of(shown) == shape_of(console.file.getvalue())


def test_every_command_is_there(tmp_path):
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    shown = set(re.findall(r"^    kvcomm ([a-z-]+)", README, flags=re.MULTILINE)) | {"mlflow-sync"}
    assert shown == {name.replace("_", "-") for name in names}
    for option in set(re.findall(r"`?(--[a-z-]+)`?", "\n".join(re.findall(r"^    kvcomm .*$", README, re.MULTILINE)))):
        texts = [CliRunner().invoke(app, [name, "--help"], terminal_width=200).output for name in shown]
        assert any(option in text for text in texts), option


@pytest.mark.parametrize(
    "page", ["README.md", *(f"{name}/README.md" for name in ("kvcomm_core", "harness", "analysis", "sweeps"))]
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#)?([^)]*)\)", text):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads], anchor


def test_the_page_is_short():
    assert len(README.splitlines()) <= 180
