"""The first screen: its three sentences, its dots, and which cells it counts."""

import dataclasses
import re

import pytest

from analysis.report.cells import Row, common_to, constant, each_once, rows_of, said, without_rough_times
from analysis.report.compared_arms import all_arms
from analysis.report.headline import headline
from analysis.report.strips import strips
from analysis.results import Results
from analysis.stats import Estimate
from harness.spec import TrialSpec
from kvcomm_core.config import KVCommConfig

SPECS = (TrialSpec(agents=2), TrialSpec(agents=2, method="kvcomm", parameters=KVCommConfig()))


def estimate(value, low=None, high=None):
    return Estimate(value, low, high, 48, 24)


@pytest.fixture
def row(write, make_result):
    """A row of kvcomm without gains, which tests fill in."""
    results = Results(write(*(make_result(spec, samples=6) for spec in SPECS)))
    found = next(one for one in rows_of("s", results, all_arms(results)) if one.reuses)
    return dataclasses.replace(found, arm=dataclasses.replace(found.arm, latency_gain=None, ttft_sum_gain=None))


def varied(row: Row, sweep="s", facts=(), **numbers) -> Row:
    arm = dataclasses.replace(row.arm, trial_ids=frozenset({str(numbers)}), **numbers)
    return dataclasses.replace(row, sweep=sweep, arm=arm, facts={**row.facts, **dict(facts)})


def test_sentences_follow_the_intervals(row):
    """Catches a claim beyond the interval, cells without one counted as equal, and first tokens told as items."""
    rows = [
        varied(
            row, latency_gain=estimate(1.1, 1.05, 1.2), ttft_sum_gain=estimate(2, 1.5, 3), change=estimate(-4, -9, -1)
        ),
        varied(
            row, latency_gain=estimate(0.9, 0.8, 1.1), ttft_sum_gain=estimate(1.5, 1.2, 2), change=estimate(4, -9, 12)
        ),
        varied(row, latency_gain=estimate(0.8, 0.7, 0.9), ttft_sum_gain=estimate(30), change=None),
    ]
    pays, price, _ = headline(rows).answers
    assert (pays.number, pays.of) == ("0.80 to 1.10x", "speed of whole items over dense, decoding included")
    assert pays.text == (
        "1 of 3 cells takes whole items faster than dense, 1 takes whole items slower than dense, 1 shows no difference"
        "; 2 of 3 cells get first tokens earlier than dense, 1 has too few items to tell, "
        "with speedups of 1.5 to 30.0x."
    )
    assert price.number == "\N{MINUS SIGN}4.0 to +4.0 points"
    assert price.text == "1 of 2 cells answers fewer items right than dense, 1 shows no difference."
    assert price.note.endswith("with 24 items a cell, these intervals reach from \N{MINUS SIGN}9 to +12 points.")
    assert "exact prefix cache, which any server has, is not measured" in pays.note


def test_times_beside_other_work_are_called_rough(row):
    """Catches a speedup that is half noise told at face value, and a warning where nothing was timed."""
    cores = (0.05, 0.9, 1.25, None)
    rows = [varied(row, ttft_sum_gain=estimate(n + 1, n, n + 2), others_cores=busy) for n, busy in enumerate(cores)]
    warning = " Its times are rough: while 2 of 4 cells ran, other processes kept 0.9 to 1.2 cores busy."
    assert headline(rows).answers[0].note.endswith(warning)
    assert "rough" not in headline([rows[0], rows[3]]).answers[0].note
    assert "rough" not in headline([varied(row, others_cores=1.0)]).answers[0].note


def test_times_beside_other_work_give_way_to_quiet_ones(row):
    """Catches gains of cells that ran side by side counted like those of cells that had the machine to themselves, and
    the only times of a method left out."""
    quiet, rough = (
        varied(row, ttft_sum_gain=estimate(n), change=estimate(-n), decode_share=estimate(60), others_cores=cores)
        for n, cores in ((2, 0.02), (9, 1.0))
    )
    told = without_rough_times([quiet, rough])
    assert [one.arm.ttft_sum_gain is None for one in told] == [False, True]
    assert (told[1].arm.decode_share, told[1].arm.change) == (None, rough.arm.change)
    pays, price, _ = headline(told).answers
    assert (pays.number, price.number) == ("2.0x", "\N{MINUS SIGN}9.0 to \N{MINUS SIGN}2.0 points")
    assert pays.note.endswith(
        " Times of 1 of 2 cells are left out: other processes kept 1.0 cores busy while they ran."
    )
    assert without_rough_times([rough]) == [rough]
    other = dataclasses.replace(rough, arm=dataclasses.replace(rough.arm, method="cacheblend"))
    assert without_rough_times([quiet, other])[1].arm.ttft_sum_gain is None
    pays = headline(without_rough_times([dataclasses.replace(quiet, arm=other.arm), quiet])[:1]).answers[0]
    assert (pays.number, pays.text[:35]) == ("not measured", "No cell that was timed without othe")
    untimed = varied(row, others_cores=0.0)
    assert without_rough_times([rough, untimed]) == [rough, untimed]


def test_what_no_changed_grade_hides(row):
    """Catches an interval of no width as proof, where a change in a few of all items would not have shown."""
    same = [varied(row, change=Estimate(0.0, 0.0, 0.0, 24, 24)), varied(row, change=Estimate(0.0, 0.0, 0.0, 48, 48))]
    # 1 - 24 / (24 + 1.96^2): Wilson's upper end of 0 in 24.
    assert headline(same).answers[1].note == (
        "No item changed its grade; with 24 to 48 items a cell, up to 14 % of all items could still (Wilson, 95 %)."
    )


def test_length_of_prompts_as_a_condition(row):
    """Catches halves the wrong way round, and a comparison of a few cells or of prompts that are alike."""
    rows = [varied(row, prompt_tokens=10.0 * n, ttft_sum_gain=estimate(n)) for n in range(1, 11)]
    text = headline(rows[::-1]).answers[2].text
    assert text.endswith(
        "; the half of the cells with prompts of 10 to 50 tokens has a median gain of 3.0x, the half with longer ones, "
        "up to 100, of 8.0x."
    )
    alike = [varied(row, prompt_tokens=100.0 + n, ttft_sum_gain=estimate(n)) for n in range(1, 11)]
    for few in (rows[:9], alike):
        assert "half" not in headline(few).answers[2].text


def test_nothing_measured_is_said(row):
    """Catches a range made of no numbers, and a headline about dense alone."""
    nothing = varied(row, change=None, kl=None, turn_reuse=None, decode_share=None)
    assert [answer.number for answer in headline([nothing]).answers] == ["not measured"] * 3
    assert headline([]) is None


def test_what_cells_have_in_common(row):
    """Catches a field that explains nothing because other cells have it, too, and settings that cannot explain."""
    off, on = (("kvcomm.rotate_keys", False),), (("kvcomm.rotate_keys", True),)
    lost, kept = [varied(row, facts=off)] * 2, [varied(row, facts=on)] * 5
    assert common_to(lost, kept) == "rotate_keys=False"
    assert common_to(lost, [*kept, *lost[:1]]) == "all have rotate_keys=False, as 3 cells do"
    assert common_to(lost, [*kept, *lost]) is None
    assert common_to([varied(row, facts=(("fidelity", 1),))], kept[:1]) is None
    assert common_to([], kept) is None
    assert said(constant([{"a.gamma": 1, "b": 2, "c": None}, {"a.gamma": 1, "b": 3, "c": None}])) == "gamma=1"


def test_trials_count_once(row):
    """Catches a trial that two sweeps have in two dots, and the smaller of two cells kept."""
    small = dataclasses.replace(row, arm=dataclasses.replace(row.arm, trial_ids=frozenset("a")))
    large = dataclasses.replace(row, arm=dataclasses.replace(row.arm, trial_ids=frozenset("ab")))
    other = dataclasses.replace(row, arm=dataclasses.replace(row.arm, trial_ids=frozenset("c")))
    assert {one.arm.trial_ids for one in each_once([small, other, large])} == {frozenset("ab"), frozenset("c")}


def test_dots_say_what_intervals_show(row):
    """Catches dots of the wrong style or place, dots that overlap, and hostile names that become markup."""
    rows = [
        varied(row, sweep="<b>", change=estimate(10, 5, 15)),
        varied(row, change=estimate(-10, -15, -5)),
        varied(row, change=estimate(0, -5, 5)),
        varied(row, change=estimate(0.1, -5, 5), kl=estimate(1)),
        varied(row, change=estimate(0)),
    ]
    (strip,) = strips(rows)
    dots = re.findall(r'<circle class="(\w+)" cx="([\d.]+)%" cy="([\d.]+)"', strip.svg)
    assert [style for style, _, _ in dots] == ["better", "worse", "open", "open", "few"]
    assert [float(x) for _, x, _ in dots[:3]] == [96, 4, 50]
    assert len({y for _, _, y in dots[2:]}) == 3
    assert "<b>" not in strip.svg
    assert "+10 (95 % interval +5 to +15)" in strip.svg
    assert "too few items for an interval" in strip.svg
    assert re.findall(r'class="middle"[^>]*>([^<]*)<', strip.svg) == [f"\N{MINUS SIGN}{n}" for n in (10, 5)] + [
        "0",
        "+5",
        "+10",
    ]
