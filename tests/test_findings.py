"""FINDINGS.md: each line of its tables is what the shipped results say.

These tests would catch numbers that stay when the results are made anew, a line of another arm or table, and one
rounded until it says nothing. `TABLES` has a function for each table, which yields the lines that the page must hold.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis import measures
from analysis.arms import arms_of
from analysis.claims.ledger import read_ledger
from analysis.claims.verdicts import judge
from analysis.compare.contrasts import contrasts
from analysis.results import Results
from analysis.stats import Estimate
from analysis.tables.blend_table import blend_rows
from analysis.tables.speed_sums import speed_sums
from analysis.tables.speed_table import speed_rows

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "analysis" / "embedded"
PAGE = " ".join((ROOT / "analysis" / "FINDINGS.md").read_text(encoding="utf-8").split())
H100 = (1.11, 5.06, 6.14, 6.85, 7.82)
"""The paper's speedups by agent, which table 2 of FINDINGS shows beside ours."""


def spans(one: Estimate | None, digits: int = 1, sign: str = "", unit: str = "") -> str:
    """An estimate with its interval, as the tables of the page have it."""
    assert one is not None
    low, high = (f"{end:{sign}.{digits}f}" for end in (one.low, one.high))
    return f"{one.value:{sign}.{digits}f}{unit} ({low} to {high})"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def times_by_agent() -> Iterator[str]:
    """Table 2: medians and paired ratios of each agent, and the sums of all."""
    results = Results(EMBEDDED / "table_2")
    arms = {cell.method: arm for cell, arm in arms_of(results).by_cell(results.ok_trials).items()}
    sums = {whole.cell.rpartition("=")[2]: whole for whole in speed_sums(results)}
    rows = {(row.cell.rpartition("=")[2], row.agent): row for row in speed_rows(results)}
    names = ("l2_norm", "mean")
    for agent in range(1, 6):
        dense = sum(rows[name, agent].dense_s for name in names) / 2
        cells = []
        for name in names:
            arm = arms[f"kvcomm estimator={name}"].of_agent(agent)
            assert len(arm.turns) == 20
            cells += [f"{1000 * rows[name, agent].method_s:,.0f}", spans(measures.speedup(arm), unit="x")]
            cells += [f"{measures.speedup_over_prefix(arm).value:.1f}x"]
        yield line(
            agent, f"{rows['mean', agent].prompt_tokens:,}", f"{1000 * dense:,.0f}", *cells, f"{H100[agent - 1]}x"
        )
    cells = []
    for name in names:
        arm = arms[f"kvcomm estimator={name}"]
        cells += [f"{1000 * sums[name].method_s:,.0f}", spans(measures.ttft_sum_speedup(arm), unit="x")]
        cells += [f"{measures.ttft_sum_over_prefix(arm).value:.1f}x"]
    dense = sum(sums[name].dense_s for name in names) / 2
    yield line("all", f"{sums['mean'].prompt_tokens:,}", f"{1000 * dense:,.0f}", *cells, "4.50x")


def speedups_by_length() -> Iterator[str]:
    """Table 3: the mean of three agents' speedups."""
    results = Results(EMBEDDED / "table_3")
    arms = arms_of(results).by_cell(results.ok_trials)
    cells = {}
    for cell, arm in arms.items():
        answer, prefix = (int(word.partition("=")[2]) for word in sorted(cell.workload.split()[1:]))
        cells[answer, prefix] = arm
    for answer in (128, 512):
        assert all(len(cells[answer, prefix].turns) == 60 for prefix in (64, 1024))
        yield line(answer, *(spans(measures.mean_speedup(cells[answer, prefix]), unit="x") for prefix in (64, 1024)))


def conversations() -> Iterator[str]:
    """Whole items of table 1, one at a time: what they take, and what kvcomm gains over dense and over prefix."""
    results = Results(EMBEDDED / "table_1_times")
    arms = {(cell.agents, cell.method): arm for cell, arm in arms_of(results).by_cell(results.ok_trials).items()}
    for agents in (2, 3, 4, 5):
        ours = arms[agents, "kvcomm"]
        taken = [f"{measures.latency(arms[agents, name]).value:.2f}" for name in ("dense", "prefix", "kvcomm")]
        gains = [
            spans(measure(ours, baseline), 2, unit="x")
            for measure in (measures.latency_speedup, measures.ttft_sum_speedup)
            for baseline in ("dense", "prefix")
        ]
        yield line(agents, *taken, f"{measures.decode_share(ours).value:.0f} %", *gains)


def answers_by_agents() -> Iterator[str]:
    """Table 1: changes of accuracy, turns and tokens reused."""
    results = Results(EMBEDDED / "table_1")
    arms = {(cell.agents, cell.method): arm for cell, arm in arms_of(results).by_cell(results.ok_trials).items()}
    for agents in (2, 3, 4, 5):
        dense, prefix, cacheblend, kvcomm = (
            arms[agents, method] for method in ("dense", "prefix", "cacheblend", "kvcomm")
        )
        exact, _ = measures.accuracy_change(prefix)
        assert (exact.value, exact.n) == (0.0, 400)
        changes = [spans(measures.accuracy_change(arm)[0], sign="+") for arm in (kvcomm, cacheblend)]
        shares = measures.turn_reuse(kvcomm), measures.token_reuse(kvcomm), measures.token_reuse(prefix)
        yield line(
            agents, f"{measures.accuracy(dense).value:.1f} %", *changes, *(spans(one, unit=" %") for one in shares)
        )


def halves() -> Iterator[str]:
    """Table 1: changes of accuracy over the first and the last 200 items."""
    results = Results(EMBEDDED / "table_1")
    arms = {(cell.agents, cell.method): arm for cell, arm in arms_of(results).by_cell(results.ok_trials).items()}
    for agents in (2, 3, 4, 5):
        changes = []
        for method in ("kvcomm", "cacheblend"):
            pairs = arms[agents, method].paired_samples()
            for half in (pairs[pairs["sample_index"] < 200], pairs[pairs["sample_index"] >= 200]):
                change = measures.accuracy_difference(half, "_dense")
                assert change.n == 200
                changes.append(spans(change, sign="+"))
        yield line(agents, *changes)


def shuffled() -> Iterator[str]:
    """The same 400 items in another order: changes by when an item was taken, and by its place in the file."""
    results = Results(EMBEDDED).each_trial_once()
    for cell, arm in arms_of(results).by_cell(results.ok_trials).items():
        if "order=random" in cell.workload and "limit=400" in cell.workload:
            pairs = arm.paired_samples()
            changes = []
            for place in ("sample_index", "sample_index_dense"):
                for half in (pairs[pairs[place] < 200], pairs[pairs[place] >= 200]):
                    change = measures.accuracy_difference(half, "_dense")
                    assert change.n == 200
                    changes.append(spans(change, sign="+"))
            yield line(cell.agents, *changes)


def harder_stories() -> Iterator[str]:
    """Table A.2: stories of five facts."""
    results = Results(EMBEDDED / "table_a2")
    arms = {(cell.agents, cell.method): arm for cell, arm in arms_of(results).by_cell(results.ok_trials).items()}
    for agents in (2, 3, 4):
        ours = arms[agents, "kvcomm"]
        change, p_value = measures.accuracy_change(ours)
        assert change.n == 200
        dense = f"{measures.accuracy(arms[agents, 'dense']).value:.1f} %"
        yield line(
            agents, dense, spans(change, sign="+"), f"{p_value:.3f}", spans(measures.turn_reuse(ours), unit=" %")
        )


def orders() -> Iterator[str]:
    """Table 4: the order of the items."""
    results = Results(EMBEDDED / "table_4")
    for cell, arm in arms_of(results).by_cell(results.ok_trials).items():
        if cell.method.startswith("kvcomm"):
            change, _ = measures.accuracy_change(arm)
            order = cell.workload.rpartition("=")[2]
            yield line(order, change.n, spans(change, sign="+"), spans(measures.turn_reuse(arm), unit=" %"))


def contrasted(sweep: str, baseline: str) -> Callable[[], Iterator[str]]:
    """Arms of a sweep beside one of them: accuracy against dense, reuse, KL and its change on the same turns."""

    def lines() -> Iterator[str]:
        results = Results(EMBEDDED / sweep)
        arms = {str(cell): arm for cell, arm in arms_of(results).graded.items()}
        for row in contrasts(results, baseline):
            change = measures.accuracy_change(arms[row.cell])[0]
            beside = ("", "") if row.kl_change is None else (spans(row.kl_change, 3, "+"), row.kl_change.n)
            yield line(spans(change, sign="+"), spans(row.turn_reuse, unit=" %"), f"{row.kl.value:.3f}", *beside)

    return lines


def estimators_at_gamma_1() -> Iterator[str]:
    """Figure A.12, which has no dense arm."""
    results = Results(EMBEDDED / "figure_a12")
    arms = {str(cell): arm for cell, arm in arms_of(results).graded.items()}
    for row in contrasts(results, "kvcomm estimator=mean"):
        beside = ("", "") if row.kl_change is None else (spans(row.kl_change, 3, "+"), row.kl_change.n)
        shares = f"{measures.accuracy(arms[row.cell]).value:.1f} %", f"{row.turn_reuse.value:.1f} %"
        yield line(f"`{row.cell.rpartition('=')[2].split()[-1]}`", *shares, spans(row.kl, 3), *beside)


def matching() -> Iterator[str]:
    """Table A.5: milliseconds by anchors and tokens."""
    results = Results(EMBEDDED / "table_a5")
    rows = {(row.tokens, row.anchors): row for row in blend_rows(results)}
    for anchors in sorted({anchors for _, anchors in rows}):
        yield line(anchors, *(f"{1000 * rows[tokens, anchors].match_s:.1f}" for tokens in (512, 1024, 2048)))


def verdicts() -> Iterator[str]:
    """The ledger: each claim that the shipped results could test."""
    for one in judge(Results(EMBEDDED), read_ledger()):
        if one.model is not None:
            assert one.ledger == "before"
            effect = f"{one.effect:.3f} ({one.low:.3f} to {one.high:.3f})"
            chance = "-" if one.p_adjusted is None else "< 0.001" if one.p_adjusted < 0.001 else f"{one.p_adjusted:.3f}"
            yield line(one.says, one.source, one.verdict, effect, one.unit, one.n, chance)


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "times by agent": times_by_agent,
    "speedups by length": speedups_by_length,
    "conversations": conversations,
    "answers by agents": answers_by_agents,
    "harder stories": harder_stories,
    "halves": halves,
    "shuffled": shuffled,
    "orders": orders,
    "steps": contrasted("table_5", "kvcomm placeholder_offset=True rotate_keys=True text_offset=True"),
    "gamma and anchors": contrasted("table_6", "kvcomm gamma=0.3 max_anchors=20"),
    "criterion": contrasted("table_a3", "kvcomm criterion=entropy_fitted"),
    "estimators": contrasted("table_a4", "kvcomm estimator=mean"),
    "estimators at gamma 1": estimators_at_gamma_1,
    "matching": matching,
    "verdicts": verdicts,
}


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_the_lines_are_those_of_the_shipped_results(table):
    lines = list(TABLES[table]())
    assert len(lines) >= 2
    assert [one for one in lines if " ".join(one.split()) not in PAGE] == []


@pytest.mark.slow
def test_the_orders_are_compared_with_each_other():
    """Catches two losses against dense read as a difference between the orders, which nobody has tested."""
    results = Results(EMBEDDED / "table_4")
    arms = {cell.workload: arm for cell, arm in arms_of(results).by_cell(results.ok_trials).items()}
    theirs, ours = (arms[f"recall order={order}"].samples for order in ("ascending", "descending"))
    change = measures.accuracy_difference(ours.merge(theirs, on="item_id", suffixes=("", "_b")), "_b")
    assert change.n == 200
    assert f"{-change.value:.1f} points fewer ({-change.high:.1f} to {-change.low:.1f}) are right than in" in PAGE
