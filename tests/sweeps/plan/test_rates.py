"""Rates of earlier trials, and the times that are made of them, against cases worked by hand."""

import dataclasses
import json

import pytest

from harness.agents import roles_for
from harness.results.parquet_files import ResultsWriter
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.questions import CHARACTERS_PER_TOKEN, MARKUP_TOKENS
from harness.workloads.recall import RecallSpec
from harness.workloads.ttft import TtftSpec
from sweeps.plan import rates as rates_module
from sweeps.plan.cost import cost_of
from sweeps.plan.earlier_trials import read_rates
from sweeps.plan.rates import ModelRates, Rates, fit

MODEL = "random:smollm2-135m"
DENSE = TrialSpec(model=MODEL, workload=RecallSpec(limit=4), max_new_tokens=50)
RATES = ModelRates(device="cpu", source="hand", token_s=0.01, token_pair_s=1e-5, longest=5000, step_s=0.1, turn_s=0.5)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(rates_module, "gpu_names", tuple)


def known(**changes):
    return Rates({MODEL: (dataclasses.replace(RATES, **changes),)})


def write(folder, *results, sweep="s"):
    writer = ResultsWriter(folder, sweep)
    for result in results:
        writer.write(result)
    writer.close()


def with_row(result, **changes):
    return dataclasses.replace(result, trial=dataclasses.replace(result.trial, **changes))


def test_fit_finds_what_points_were_made_of():
    """Catches terms mixed up, a negative rate, and a square made up from prompts of nearly one length."""
    assert fit([(n, 0.002 * n + 1e-6 * n * n) for n in (100, 300, 2000)]) == pytest.approx((0.002, 1e-6))
    assert fit([(100, 0.2), (100, 0.4)]) == pytest.approx((0.003, 0.0))
    assert fit([(100, 0.2), (300, 0.9)]) == pytest.approx((0.0025, 0.0))
    assert min(fit([(100, 0.1), (1000, 10.0)])) == 0.0
    assert min(fit([(100, 0.4), (1000, 2.0)])) == 0.0


def test_rates_of_earlier_trials(tmp_path, make_result):
    """Catches dense and reuse turns mixed, and a first token counted as a step.

    The made-up turns have 100 prompt tokens, take 0.2 s dense and 0.1 s reusing, and 11 tokens in 1 s; of two samples
    with kvcomm one is dense. A trial takes 60 s.
    """
    write(tmp_path, make_result(DENSE), make_result(dataclasses.replace(DENSE, method="kvcomm")))
    ((rates,),) = read_rates(tmp_path).models.values()
    assert (rates.device, rates.source, rates.token_pair_s) == ("cpu", "2 earlier trials", 0.0)
    assert rates.prefill_s(100) == pytest.approx(0.2)
    assert rates.prefill_s(201, from_above=True) == pytest.approx(2 * 0.402)
    assert rates.step_s == pytest.approx(1.0 / 10)
    assert rates.shares == {(False, "dense"): pytest.approx(1.0), (False, "kvcomm"): pytest.approx(0.75)}
    assert rates.answer_tokens == {"recall": 11}
    assert rates.turn_s == pytest.approx((120 - 6 * 1.2 - 3 * 1.2 - 3 * 1.1) / 12)


def test_a_timing_tells_the_share_of_prefix(tmp_path, make_result):
    """Catches an arm that every timing holds left without a share, so that each plan of a timing is a wide range."""
    spec = TrialSpec(model=MODEL, agents=2, method="kvcomm", workload=TtftSpec())
    result = make_result(spec)
    arms = {"dense": 0.2, "bare": 0.2, "prefix": 0.15, "kvcomm": 0.05}
    turns = [
        dataclasses.replace(turn, arm=arm, ttft_s=took, mode="dense" if arm in ("dense", "bare") else "partial")
        for turn in result.turns
        for arm, took in arms.items()
    ]
    write(tmp_path, dataclasses.replace(result, turns=turns, samples=[]))
    ((rates,),) = read_rates(tmp_path).models.values()
    assert rates.shares == {(True, "kvcomm"): pytest.approx(0.25), (True, "prefix"): pytest.approx(0.75)}


def test_failed_and_copied_trials_do_not_count(tmp_path, make_result):
    """Catches the time of a trial that broke off, and one that a sweep took from another counted twice."""
    write(tmp_path, make_result(DENSE), make_result(dataclasses.replace(DENSE, seed=1), status="error"))
    write(tmp_path, make_result(DENSE, sweep="t"), sweep="t")
    ((rates,),) = read_rates(tmp_path).models.values()
    assert rates.n_trials == 1
    assert read_rates(tmp_path / "nowhere") == Rates()


def test_turns_that_were_taken_together_share_their_times(tmp_path, make_result):
    """Catches the time of a batch counted once for each of its rows."""
    result = make_result(dataclasses.replace(DENSE, batch_size=2))
    turns = [dataclasses.replace(turn, batch_size=2) for turn in result.turns]
    write(tmp_path, dataclasses.replace(result, turns=turns))
    ((rates,),) = read_rates(tmp_path).models.values()
    assert (rates.batch_size, rates.prefill_s(100), rates.step_s) == (2, pytest.approx(0.1), pytest.approx(0.05))


def test_the_nearest_conditions_count(tmp_path, make_result, monkeypatch):
    """Catches times of a GPU taken for those of this CPU, or of two threads for those of one."""
    cases = {
        0: ("cuda:0 NVIDIA H100", None, 1),
        1: ("cpu", 1, 1),
        2: ("cpu", 2, 1),
        3: ("cpu", 2, 8),
    }
    for seed, (device, threads, batch_size) in cases.items():
        result = make_result(dataclasses.replace(DENSE, seed=seed, batch_size=batch_size))
        write(tmp_path, with_row(result, device=device, env_json=json.dumps({"threads": threads})), sweep=f"s{seed}")
    rates = read_rates(tmp_path)

    def found(batch_size, threads):
        one = rates.of(MODEL, batch_size=batch_size, threads=threads, decodes=True)
        return one.device, one.threads, one.batch_size

    assert found(1, 1) == ("cpu", 1, 1)
    assert found(1, 2) == ("cpu", 2, 1)
    assert found(4, 2) == ("cpu", 2, 1)
    assert found(16, 2) == ("cpu", 2, 8)
    monkeypatch.setattr(rates_module, "gpu_names", lambda: ("NVIDIA H100",))
    assert found(1, 2) == ("NVIDIA H100", None, 1)
    assert rates.of("another", batch_size=1, threads=1, decodes=True) is None


def test_time_of_a_trial_by_hand():
    """Catches a first token decoded twice, a share taken of decoding, and turns compared with dense for nothing."""
    spec = dataclasses.replace(DENSE, agents=3, method="kvcomm", fidelity=0.5)
    items = spec.workload.load(0)
    rates = known(answer_tokens={"recall": 10.0}, shares={(False, "kvcomm"): 0.4})
    fixed = [
        MARKUP_TOKENS + (len(role.system) + len(role.user)) // CHARACTERS_PER_TOKEN for role in roles_for("recall", 3)
    ]
    question = sum(len(item.question) for item in items) / CHARACTERS_PER_TOKEN / 4
    prompts = [text + question + 10 * read for read, text in enumerate(fixed)]
    dense = sum(0.01 * n + 1e-5 * n * n for n in prompts)
    time = cost_of(spec, items, rates).time
    assert time.prefill_s == pytest.approx(4 * dense * (0.4 + 0.5))
    assert time.decode_s == pytest.approx(4 * 3 * 9 * 0.1 * 1.5)
    assert time.high_s == pytest.approx(time.prefill_s + time.decode_s + 4 * 3 * 0.5)
    assert time.low_s == time.high_s


def test_what_is_not_known_is_a_range():
    """Catches a point made up where neither the length of answers nor the share of a method was ever measured."""
    items = DENSE.workload.load(0)
    dense = cost_of(DENSE, items, known()).time
    exact = [cost_of(DENSE, items, known(answer_tokens={"recall": n})).time for n in (1.0, 50.0)]
    assert (dense.low_s, dense.high_s) == (exact[0].low_s, exact[1].high_s)
    reuse = cost_of(dataclasses.replace(DENSE, method="kvcomm"), items, known(answer_tokens={"recall": 10.0})).time
    assert reuse.high_s == cost_of(DENSE, items, known(answer_tokens={"recall": 10.0})).time.high_s
    assert reuse.low_s == pytest.approx(reuse.high_s - reuse.prefill_s)
    assert cost_of(DENSE, items, Rates()).time is None
    assert cost_of(DENSE, items, known(step_s=None)).time is None


def test_time_of_a_timing_by_hand():
    """Catches an arm, the warm-up, the filling of pools or the KV of given answers left out."""
    workload = TtftSpec(prefix_tokens=100, input_tokens=92, output_tokens=40, anchors=2, repeats=4)
    spec = TrialSpec(model=MODEL, agents=1 + 1, workload=workload, method="kvcomm")
    prompts = [100 + 92 + 4, 100 + 92 + 40 + 8]

    def seconds(n):
        return 0.01 * n + 1e-5 * n * n

    dense, longer = sum(map(seconds, prompts)), sum(seconds(n + 40) for n in prompts)
    rates = known(shares={(True, "kvcomm"): 0.1, (False, "kvcomm"): 9.0, (True, "prefix"): 0.7}, step_s=None)
    time = cost_of(spec, [], rates).time
    assert time.prefill_s == pytest.approx(dense * (5 + 5 + 1 + 5 * 0.7 + 5 * 0.1))
    assert time.decode_s == pytest.approx((longer - dense) * (5 * 3 + 1))
    decoded = dataclasses.replace(spec, workload=dataclasses.replace(workload, decode=True))
    assert cost_of(decoded, [], known()).time.decode_s == pytest.approx(39 * 2 * (5 * 3 + 1) * 0.1)


def test_time_of_blending_grows_with_what_is_read(tmp_path, make_result):
    """Catches trials of 5 and of 25 anchors taken for equally long."""
    spec = TrialSpec(model=MODEL, method="kvcomm", workload=BlendSpec(anchors=5, tokens=100, repeats=1))
    write(tmp_path, dataclasses.replace(make_result(spec), turns=[], samples=[]))
    larger = dataclasses.replace(spec, workload=BlendSpec(anchors=10, tokens=300, repeats=3))
    assert cost_of(larger, [], read_rates(tmp_path)).time.low_s == pytest.approx(60 * 2 * 3 * 2)
