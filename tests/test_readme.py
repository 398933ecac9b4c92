"""README.md: what it shows is what the command prints, its numbers are the shipped results', what it names is there.

These tests would catch a table whose columns or rows are of an earlier version, a command or an option that has gone, a
link that leads nowhere, and a page that has grown beyond what anybody reads.
"""

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import make_result
from rich.console import Console
from typer.testing import CliRunner

from analysis import measures
from analysis.arena.rows import arena_rows, entries_of
from analysis.arms import Arms, Baseline, arms_of
from analysis.claims.ledger import read_ledger
from analysis.claims.verdicts import judge
from analysis.results import Results
from analysis.tables.speed_sums import speed_sums
from analysis.tables.speed_table import speed_rows
from analysis.tables.sweep_table import cell_rows, render_cells
from harness.results.results_writer import ResultsWriter
from sweeps.cli import app
from sweeps.language.sweep_spec import load_sweep

__all__ = ["make_result"]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
[TABLE] = re.findall(r"prints\s+its\s+table:\n\n((?:    .*\n|\n)+)", README)
SHIPPED = ROOT / "analysis" / "embedded"
BASELINES: tuple[Baseline, Baseline] = ("dense", "prefix")


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
    assert shape_of(TABLE) == shape_of(console.file.getvalue())


@pytest.mark.slow
def test_the_rows_are_those_of_the_shipped_questions():
    """Catches numbers of a run that nobody can look up, and of one beside other work."""
    no_prefix = {"latency_over_prefix": None, "ttft_sum_over_prefix": None}  # the demo has no such arm
    found = (replace(row, **no_prefix) for row in cell_rows(Results(SHIPPED / "table_1_times")))
    rows = [row for row in found if row.agents < 4 and row.method != "prefix"]
    console = Console(file=io.StringIO(), width=80)
    console.print(render_cells(rows))
    assert TABLE.split() == console.file.getvalue().split()


def words_of(page: str) -> str:
    """The text of a page without its line breaks."""
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def test_the_times_are_those_of_the_shipped_timing():
    """Catches the ratio of one agent quoted for all, and numbers that stay when the results are made anew."""
    results = Results(SHIPPED / "table_2")
    last = {row.cell: row for row in speed_rows(results) if row.agent == 5}
    for whole in speed_sums(results):
        estimator = whole.cell.rpartition("=")[2]
        for name, row in (("all five agents", whole), ("the fifth agent alone", last[whole.cell])):
            times = " | ".join(f"{1000 * seconds:,.0f}" for seconds in (row.dense_s, row.prefix_s, row.method_s))
            numbers = f"{times} | {row.speedup:.1f}x | {row.over_prefix:.1f}x |"
            assert re.search(rf"^\| {name}, `{estimator}`[^|]* \| {re.escape(numbers)}$", README, re.MULTILINE), numbers
            assert row.n_samples == 20 if row is whole else row.n_turns == 20


def test_the_conversations_are_those_of_the_shipped_questions():
    """Catches a gain of single turns quoted for whole items, the best cell for all, and a gain over dense alone."""
    results = Results(SHIPPED / "table_1_times")
    arms = {(cell.agents, cell.method): arm for cell, arm in Arms(results).by_cell(results.ok_trials).items()}
    ours = [arms[agents, "kvcomm"] for agents in (2, 3, 4, 5)]
    over_dense, over_prefix = ([measures.latency_speedup(arm, name).value for arm in ours] for name in BASELINES)
    shares = [measures.decode_share(arm).value for arm in ours]
    told = (
        f"{min(over_dense):.2f} to {max(over_dense):.2f} times faster than dense and {min(over_prefix):.2f} to "
        f"{max(over_prefix):.2f} times faster than with an exact prefix cache, with {min(shares):.0f} to "
        f"{max(shares):.0f} % of the time spent on decoding"
    )
    assert told in words_of("README.md")
    assert {measures.latency(arm).n for arm in ours} == {72}
    assert f"of up to {results.turns['prompt_tokens'].max()} tokens, 72 items" in words_of("README.md")


@pytest.mark.slow
def test_the_losses_are_those_of_400_shipped_items():
    """Catches a change of accuracy of another arm, of fewer items, or rounded until it says nothing."""
    results = Results(SHIPPED / "table_1")
    arms = {(cell.agents, cell.method): arm for cell, arm in arms_of(results).by_cell(results.ok_trials).items()}
    for agents in (2, 3):
        change, _ = measures.accuracy_change(arms[agents, "kvcomm"])
        assert change.n == 400
        assert f"{-change.value:.1f}" in words_of("README.md")
        assert f"({-change.high:.1f} to {-change.low:.1f})" in words_of("README.md")


@pytest.mark.slow
def test_the_verdicts_are_counted():
    """Catches a count of claims that stays when results, or the ledger's tests, change."""
    verdicts = Counter(one.verdict for one in judge(Results(SHIPPED), read_ledger()))
    counts = (sum(verdicts.values()), *(verdicts[name] for name in ("reproduced", "contradicted", "undecided")))
    told = "Of {} claims whose tests were fixed before the runs, {} are reproduced, {} contradicted and {} open"
    assert told.format(*counts) in words_of("README.md")


def arena_cells(row):
    """The cells of an arm in the tables of FINDINGS and README: tokens computed, and both KLs."""
    spans = [f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})" for one in (row.kl_next_token, row.kl_continuation)]
    return f"| {100 * row.computed_share.value:.1f} % | {' | '.join(spans)} |"


@pytest.mark.slow
def test_the_arena_is_the_shipped_one():
    """Catches an arm whose numbers are of another run, or of the samples that filled its pools, and one left out."""
    whole = Results(ROOT / "analysis" / "embedded_arena" / "arena")
    lines = []
    for row in arena_rows(entries_of(whole.from_sample(8)), whole.turns):
        assert row.n_items == 200
        if row.kl_next_token is not None:  # all but dense
            lines.append(arena_cells(row))
    assert [line for line in lines if line not in words_of("analysis/FINDINGS.md")] == []
    told = re.findall(r"\| [\d.]+ % \| 0\.[^|]* \| 0\.[^|]* \|", README)
    assert len(told) >= 5
    assert set(told) <= set(lines)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "items", "arms"), [("recall", 200, 23), ("humaneval", 156, 23)])
def test_the_other_arenas_are_the_shipped_ones(kind, items, arms):
    """Catches an arm whose numbers are of another kind of prompts, and one left out."""
    whole = Results(ROOT / "analysis" / "embedded_arena" / f"arena-{kind}")
    rows = [row for row in arena_rows(entries_of(whole.from_sample(8)), whole.turns) if row.kl_next_token is not None]
    assert ({row.n_items for row in rows}, len(rows)) == ({items}, arms)
    assert [numbers for row in rows if (numbers := arena_cells(row)) not in words_of("analysis/FINDINGS.md")] == []


def test_the_times_of_the_arena_are_the_shipped_ones():
    """Catches an arm whose times are of another run, or of one beside other work, and one left out."""
    whole = Results(ROOT / "analysis" / "embedded_arena" / "arena-times")
    rows = list(arena_rows(entries_of(whole.from_sample(8)), whole.turns))
    [dense] = [row.conversation_ttft_s.value for row in rows if row.arm.startswith("dense")]
    lines = []
    for row in rows:
        assert (row.n_items, row.n_turns) == (24, 72)
        low, value, high = (1000 * getattr(row.conversation_ttft_s, name) for name in ("low", "value", "high"))
        lines.append(
            f"| {100 * row.computed_share.value:.1f} % | {value:.0f} ({low:.0f} to {high:.0f}) "
            f"| {1000 * row.ttft_s.value:.0f} | {1000 * dense / value:.2f}x |"
        )
    assert len(lines) == 24
    assert [line for line in lines if line not in words_of("analysis/FINDINGS.md")] == []
    assert whole.trials.others_cpu_s.max() < 1.0  # the shortest trial took 26 s


@pytest.mark.slow
def test_the_judges_are_the_shipped_ones():
    """Catches picks of another run, and an arm left out."""
    whole = Results(ROOT / "analysis" / "embedded_arena" / "arena-judge")
    lines = []
    for row in arena_rows(entries_of(whole.from_sample(8)), whole.turns):
        if (same := row.judge_consistency) is not None:
            assert same.n_clusters == 192
            shares = [100 * one.value for one in (row.judge_balanced, row.computed_share, row.computed_share_last_turn)]
            lines.append(
                f"| {100 * same.value:.1f} % ({100 * same.low:.0f} to {100 * same.high:.0f}) "
                f"| {row.judge_kappa.value:.2f} | {' | '.join(f'{share:.1f} %' for share in shares)} |"
            )
    assert len(lines) == 23
    assert [line for line in lines if line not in words_of("analysis/FINDINGS.md")] == []


def test_every_command_is_there(tmp_path):
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    page = (ROOT / "sweeps" / "README.md").read_text(encoding="utf-8").partition("\n## Commands\n")[2]
    listed = "\n".join(re.findall(r"^    kvcomm .*$", page.partition("\n## ")[0], re.MULTILINE))
    shown = set(re.findall(r"^    kvcomm ([a-z-]+)", listed, flags=re.MULTILINE)) | {"mlflow-sync"}
    assert shown == {name.replace("_", "-") for name in names}
    for option in set(re.findall(r"--[a-z-]+", listed)):
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


def queries(program: str) -> list[str]:
    """The one-line queries of the README files for a program."""
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "harness/README.md")]
    return re.findall(rf"^    {program} -c [\"'](.*)[\"']$", "\n".join(pages), re.MULTILINE)


@pytest.fixture
def smoke_results(tmp_path, make_result, monkeypatch):
    writer = ResultsWriter(tmp_path / "results", "smoke")
    for trial in load_sweep(ROOT / "sweeps" / "smoke.yaml").trials:
        writer.write(make_result(trial, sweep="smoke"))
    writer.close()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("query", queries("python"))
def test_the_queries_in_pandas_run(query, smoke_results, capsys):
    """Catches a column or a folder of an earlier version."""
    exec(query, {})
    assert "0." in capsys.readouterr().out


@pytest.mark.parametrize("query", queries("duckdb"))
def test_the_queries_in_duckdb_run(query, smoke_results):
    """The same in SQL, where DuckDB is installed."""
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql(query).fetchall()


def test_there_are_queries_for_both():
    assert len(queries("python")) == len(queries("duckdb")) == 2
