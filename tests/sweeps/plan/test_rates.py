"""Rates of earlier trials, and the times that are made of them, against cases worked by hand."""

import dataclasses
import json

import pytest
import torch
from tiny_files import save_folder

from harness.agents import roles_for
from harness.results.results_writer import ResultsWriter
from harness.spec import TrialSpec
from harness.workloads.blend import BlendSpec
from harness.workloads.questions import CHARACTERS_PER_TOKEN, MARKUP_TOKENS
from harness.workloads.recall import RecallSpec
from harness.workloads.ttft import TtftSpec
from kvcomm_core.models.model_source import ModelError
from sweeps.plan import rates as rates_module
from sweeps.plan.calibration import measure_unknown
from sweeps.plan.cost import cost_of
from sweeps.plan.rates import conditions_here, rates_near, read_rates

MODEL = "random:smollm2-135m"
DENSE = TrialSpec(model=MODEL, workload=RecallSpec(limit=4), max_new_tokens=50)
KNOWN = {"trials": 9.0, "dense": 0.01, "decoding": 0.1}


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(rates_module, "gpu_names", tuple)


def known(**changes):
    return {MODEL: {"cpu, 1 thread": {**KNOWN, **changes}}}


def without(activity):
    return {MODEL: {"cpu, 1 thread": {name: amount for name, amount in KNOWN.items() if name != activity}}}


def write(folder, *results, sweep="s"):
    writer = ResultsWriter(folder, sweep)
    for result in results:
        writer.write(result)
    writer.close()


def with_row(result, **changes):
    return dataclasses.replace(result, trial=dataclasses.replace(result.trial, **changes))


def test_rates_of_earlier_trials(tmp_path, make_result):
    """Catches turns of two methods mixed, a first token counted as a step, and answers counted by turn and sample.

    The made-up turns have 100 prompt tokens, take 0.2 s dense and 0.1 s reusing, and 11 tokens in 1 s; of two samples
    with kvcomm one is dense.
    """
    write(tmp_path, make_result(DENSE), make_result(dataclasses.replace(DENSE, method="kvcomm")))
    assert read_rates(tmp_path) == {
        MODEL: {
            "cpu": {
                "trials": 2,
                "dense": pytest.approx(0.002),
                "kvcomm": pytest.approx(0.0015),
                "decoding": pytest.approx(0.1),
                "answers of recall": 11,
            }
        }
    }


def test_a_timing_does_not_count_for_conversations(tmp_path, make_result):
    """Catches the full pools of a timing, and the answers that it gives, taken for those of a conversation."""
    timing = TrialSpec(model=MODEL, agents=2, method="kvcomm", workload=TtftSpec(anchors=2))
    result = make_result(timing)
    turns = [
        dataclasses.replace(turn, stop_reason="given", arm=arm) for turn in result.turns for arm in ("bare", "kvcomm")
    ]
    write(tmp_path, dataclasses.replace(result, turns=turns, samples=[]))
    (rates,) = read_rates(tmp_path)[MODEL].values()
    assert rates.keys() == {"trials", "timing bare", "timing kvcomm"}


def test_failed_and_copied_trials_do_not_count(tmp_path, make_result):
    """Catches the time of a trial that broke off, and one that a sweep took from another counted twice."""
    write(tmp_path, make_result(DENSE), make_result(dataclasses.replace(DENSE, seed=1), status="error"))
    write(tmp_path, make_result(DENSE, sweep="t"), sweep="t")
    assert read_rates(tmp_path)[MODEL]["cpu"]["trials"] == 1
    assert read_rates(tmp_path / "nowhere") == {}


def test_turns_that_were_taken_together_share_their_times(tmp_path, make_result):
    """Catches the time of a batch counted once for each of its rows."""
    result = make_result(dataclasses.replace(DENSE, batch_size=2))
    turns = [dataclasses.replace(turn, batch_size=2) for turn in result.turns]
    write(tmp_path, dataclasses.replace(result, turns=turns))
    rates = read_rates(tmp_path)[MODEL]["cpu, batches of 2"]
    assert (rates["dense"], rates["decoding"]) == (pytest.approx(0.001), pytest.approx(0.05))


def test_turns_of_rows_that_are_refilled_know_their_own_part(tmp_path, make_result):
    """Catches the time of a row, in which others are prefilled, taken for that of its own decoding."""
    result = make_result(dataclasses.replace(DENSE, batch_size=2, wave=2))
    turns = [dataclasses.replace(t, batch_size=2, ttft_share_s=0.3, decode_share_s=0.4) for t in result.turns]
    write(tmp_path, dataclasses.replace(result, turns=turns))
    rates = read_rates(tmp_path)[MODEL]["cpu, batches of 2"]
    assert (rates["dense"], rates["decoding"]) == (pytest.approx(0.003), pytest.approx(0.04))


def test_the_nearest_conditions_count(tmp_path, make_result, monkeypatch):
    """Catches times of a GPU taken for those of this CPU, of two threads for those of one, or of a batch for others;
    and a rate that is only known under other conditions left out."""
    cases = {
        0: ("cuda:0 NVIDIA H100", None, 1),
        1: ("cpu", 1, 1),
        2: ("cpu", 2, 1),
        3: ("cpu", 2, 8),
    }
    for seed, (device, threads, batch_size) in cases.items():
        method = "kvcomm" if seed == 3 else "dense"
        result = make_result(dataclasses.replace(DENSE, seed=seed, batch_size=batch_size, method=method))
        write(tmp_path, with_row(result, device=device, env_json=json.dumps({"threads": threads})), sweep=f"s{seed}")
    rates = read_rates(tmp_path)

    def found(batch_size, threads, activity="decoding"):
        here = conditions_here(dataclasses.replace(DENSE, batch_size=batch_size), threads)
        return rates_near(rates, MODEL, here)[activity].conditions

    assert found(1, 1) == "cpu, 1 thread"
    assert found(1, 2) == "cpu, 2 threads"
    assert found(8, 2) == "cpu, 2 threads, batches of 8"
    assert found(8, 2, "dense") == "cpu, 2 threads"
    assert found(1, 1, "kvcomm") == "cpu, 2 threads, batches of 8"
    monkeypatch.setattr(rates_module, "gpu_names", lambda: ("NVIDIA H100",))
    assert found(1, 2) == "NVIDIA H100"
    assert rates_near(rates, "another", "cpu, 1 thread") == {}


def test_time_of_a_trial_by_hand():
    """Catches a first token decoded twice, a share taken of decoding, and turns compared with dense for nothing."""
    spec = dataclasses.replace(DENSE, agents=3, method="kvcomm", fidelity=0.5)
    items = spec.workload.load(0)
    rates = known(**{"answers of recall": 10.0, "kvcomm": 0.004})
    fixed = [
        MARKUP_TOKENS + (len(role.system) + len(role.user)) // CHARACTERS_PER_TOKEN for role in roles_for("recall", 3)
    ]
    question = sum(len(item.question) for item in items) / CHARACTERS_PER_TOKEN / 4
    prompts = sum(text + question + 10 * read for read, text in enumerate(fixed))
    cost = cost_of(spec, items, rates)
    assert cost.by_phase["prefill"] == pytest.approx(4 * prompts * (0.004 + 0.5 * 0.01))
    assert cost.by_phase["decoding"] == pytest.approx(4 * 3 * 9 * 0.1 * 1.5)
    assert cost.low_s == cost.high_s == pytest.approx(sum(cost.by_phase.values()))
    assert (cost.on_gpu, cost.source) == (False, "9 earlier trials on cpu, 1 thread")


def test_what_is_not_known_is_a_range():
    """Catches a point made up where neither the length of answers nor the share of a method was ever measured."""
    items = DENSE.workload.load(0)
    dense = cost_of(DENSE, items, known())
    exact = [cost_of(DENSE, items, known(**{"answers of recall": n})) for n in (1.0, 50.0)]
    assert (dense.low_s, dense.high_s) == (exact[0].low_s, exact[1].high_s)
    reuse = cost_of(dataclasses.replace(DENSE, method="kvcomm"), items, known(**{"answers of recall": 10.0}))
    assert reuse.high_s == cost_of(DENSE, items, known(**{"answers of recall": 10.0})).high_s
    assert reuse.low_s == pytest.approx(reuse.by_phase["decoding"])
    for rates in ({}, without("decoding"), without("dense")):
        assert (cost_of(DENSE, items, rates).low_s, cost_of(DENSE, items, rates).high_s) == (None, None)


def test_time_of_a_timing_by_hand():
    """Catches an arm, the warm-up, the filling of pools or the KV of given answers left out."""
    workload = TtftSpec(prefix_tokens=100, input_tokens=92, output_tokens=40, anchors=2, repeats=4)
    spec = TrialSpec(model=MODEL, agents=1 + 1, workload=workload, method="kvcomm")
    prompts = (100 + 92 + 4) + (100 + 92 + 40 + 8)
    cost = cost_of(
        spec,
        [],
        known(
            **{"timing bare": 0.02, "timing dense": 0.03, "timing prefix": 0.025, "timing kvcomm": 0.001, "kvcomm": 9.0}
        ),
    )
    assert cost.by_phase["prefill"] == pytest.approx(prompts * (5 * 0.02 + (5 + 1) * 0.03 + 5 * 0.025 + 5 * 0.001))
    assert cost.by_phase["decoding"] == pytest.approx(2 * 40 * 0.03 * (5 * 3 + 1))
    assert cost.low_s == cost.high_s
    assert cost_of(spec, [], without("decoding")).by_phase["prefill"] == pytest.approx(
        prompts * 0.01 * (5 + 5 + 1 + 5 + 5)
    )
    decoded = dataclasses.replace(spec, workload=dataclasses.replace(workload, decode=True))
    assert cost_of(decoded, [], known()).by_phase["decoding"] == pytest.approx(39 * 2 * (5 * 3 + 1) * 0.1)


def test_time_of_blending_grows_with_what_is_read(tmp_path, make_result):
    """Catches trials of 5 and of 25 anchors taken for equally long."""
    spec = TrialSpec(model=MODEL, method="kvcomm", workload=BlendSpec(anchors=5, tokens=100, repeats=1))
    write(tmp_path, dataclasses.replace(make_result(spec), turns=[], samples=[]))
    larger = dataclasses.replace(spec, workload=BlendSpec(anchors=10, tokens=300, repeats=3))
    assert cost_of(larger, [], read_rates(tmp_path)).low_s == pytest.approx(60 * 2 * 3 * 2)


def test_a_measurement_just_now(tmp_path):
    """Catches a measurement that is repeated, that passes for earlier trials, or from which no time can be made."""
    save_folder(tmp_path / "model")
    model, threads = str(tmp_path / "model"), torch.get_num_threads()
    trial = dataclasses.replace(DENSE, model=model)
    rates = {}
    measure_unknown(rates, [model], threads)
    assert [*rates[model]] == [conditions_here(trial, threads)]
    assert rates[model][conditions_here(trial, threads)].keys() == {
        "trials", "timing bare", "timing dense", "decoding",
    }  # fmt: skip
    cost = cost_of(trial, trial.workload.load(0), rates, threads=threads)
    assert 0 < cost.low_s < cost.high_s
    assert cost.source.startswith("a measurement just now on cpu, ")
    earlier = known()
    measure_unknown(earlier, [MODEL], threads + 1)
    assert earlier == known()
    with pytest.raises(ModelError, match=r"model '\./nowhere' cannot be loaded"):
        measure_unknown({}, ["./nowhere"], threads)
