"""Made-up trial results, for tests that need results but no model."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.environment import Environment
from harness.results.measurements import FidelityRecord
from harness.results.results_writer import ResultsWriter
from harness.results.summary import trial_row, with_metrics
from harness.results.trial_result import SampleRecord, TrialResult, TurnRecord
from harness.spec import TrialSpec

MakeResult = Callable[..., TrialResult]


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """Return ``make_result(spec, status="ok", attempt=1, sweep="s", samples=2)``, which makes one turn per agent and
    sample.

    Dense turns take 0.2 s to the first token, reuse turns 0.1 s; the first sample of a kvcomm trial is dense. Odd
    samples are answered wrong. The function refers to nothing in this module, so that it can travel to a Ray worker.
    """

    def make(
        spec: TrialSpec, *, status: str = "ok", attempt: int = 1, sweep: str = "s", samples: int = 2
    ) -> TrialResult:
        ok = status == "ok"
        turns, graded = [], []
        for sample in range(samples if ok else 0):
            for agent in range(1, spec.agents + 1):
                reuse = spec.method == "kvcomm" and sample > 0
                turns.append(
                    TurnRecord(
                        trial_id=spec.trial_id,
                        attempt=attempt,
                        arm=spec.method,
                        sample_index=sample,
                        item_id=f"item-{sample}",
                        round=0,
                        agent_index=agent,
                        agent_role="Reader",
                        mode="reuse" if reuse else "dense",
                        batch_size=1,
                        prompt_tokens=100,
                        reused_tokens=90 if reuse else 0,
                        reused_text_tokens=50 if reuse else 0,
                        reused_placeholder_tokens=40 if reuse else 0,
                        output_tokens=11,
                        stop_reason="eos",
                        ttft_s=0.1 if reuse else 0.2,
                        ttft_paper_s=0.1 if reuse else 0.2,
                        phase_base_kv_s=0.0,
                        phase_match_s=0.0,
                        phase_blend_s=0.0,
                        phase_recompute_s=0.0,
                        phase_prefill_s=0.1,
                        phase_store_s=0.0,
                        decode_s=1.0,
                        anchors_in_pool=None,
                        pool_bytes=None,
                        memory_bytes=2**30,
                        kl_next_token=None,
                        top1_agree=None,
                        first_divergence=None,
                        greedy_agreement=None,
                        key_cosine=None,
                        value_cosine=None,
                        prompt_sha256="0" * 64,
                        prompt_text="?",
                        output_text="!",
                        outcome="wrong" if sample % 2 else "correct",
                        extracted="!",
                        grade_rule="whole",
                        tool=None,
                        tool_outcome=None,
                        tool_text=None,
                        tool_s=None,
                    )
                )
            graded.append(
                SampleRecord(
                    trial_id=spec.trial_id,
                    attempt=attempt,
                    sample_index=sample,
                    item_id=f"item-{sample}",
                    answer_text="!",
                    extracted="!",
                    expected="!",
                    outcome="wrong" if sample % 2 else "correct",
                    grade_rule="whole",
                    latency_s=2.0,
                )
            )
        started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        row = trial_row(
            spec,
            status,  # type: ignore[arg-type]
            None if ok else f"Traceback\n  somewhere\nValueError: attempt {attempt} went wrong",
            sweep=sweep,
            attempt=attempt,
            started_at=started,
            environment=Environment(
                git_commit=None,
                git_dirty=None,
                python="3",
                platform="Linux",
                packages={},
                host="here",
                cpu=None,
                cores=1,
                threads=None,
                memory_bytes=2**30,
                gpus=(),
            ),
            device="cpu",
            memory_start_bytes=2**30,
            memory_peak_bytes=2**30 + 1,
            resumed_from=0,
        )
        row = dataclasses.replace(
            with_metrics(row, turns, graded, None, None),
            load_average_start=1.0,
            load_average_end=1.0,
            others_cpu_s=0.0,
            ended_at=started + timedelta(seconds=60),
            env_json="{}",
        )
        return TrialResult(row, turns, graded)

    return make


def write_results(folder: Path, *results: TrialResult) -> Path:
    """Write each result into the sweep named in its row; return the results folder."""
    for result in results:
        writer = ResultsWriter(folder, result.trial.sweep)
        writer.write(result)
        writer.close()
    return folder


def with_fidelity(result: TrialResult, kl: Callable[[TurnRecord], float]) -> TrialResult:
    """Return the result as if every turn that is not dense had been checked against dense, with KL ``kl(turn)``.

    Turns agree on the first token if kl is below 0.1. Over 32 tokens KL is 2 kl and top-1 agreement 1 - kl / 2. The
    answers' agreement is 1 - kl; the cosine of keys is 1 - kl / 10 and that of values 1 - kl / 5, in one layer and one
    kind of segment.
    """
    turns, fidelity = [], []
    for turn in result.turns:
        if turn.mode == "dense":
            turns.append(turn)
            continue
        away = kl(turn)
        turns.append(
            dataclasses.replace(
                turn,
                kl_next_token=away,
                top1_agree=away < 0.1,
                kl_continuation=2 * away,
                top1_continuation=max(0.0, 1 - away / 2),
                continuation_tokens=32,
                first_divergence=3 if away else None,
                greedy_agreement=max(0.0, 1 - away),
                key_cosine=1 - away / 10,
                value_cosine=1 - away / 5,
            )
        )
        for part, cosine in (("keys", 1 - away / 10), ("values", 1 - away / 5)):
            fidelity.append(
                FidelityRecord(
                    trial_id=turn.trial_id,
                    attempt=turn.attempt,
                    sample_index=turn.sample_index,
                    agent_index=turn.agent_index,
                    round=turn.round,
                    layer=0,
                    kind="placeholder",
                    part=part,  # type: ignore[arg-type]
                    cosine=cosine,
                    l2_error=away,
                    tokens=40,
                )
            )
    checked = [turn for turn in turns if turn.kl_next_token is not None]
    trial = dataclasses.replace(
        result.trial,
        kl_mean=sum(turn.kl_next_token or 0 for turn in checked) / len(checked),
        top1_rate=sum(turn.top1_agree or 0 for turn in checked) / len(checked),
        kl_continuation_mean=sum(turn.kl_continuation or 0 for turn in checked) / len(checked),
        top1_continuation_mean=sum(turn.top1_continuation or 0 for turn in checked) / len(checked),
        greedy_agreement_mean=sum(turn.greedy_agreement or 0 for turn in checked) / len(checked),
    )
    return TrialResult(trial, turns, result.samples, fidelity)


def with_reasons(result: TrialResult, reasons: str) -> TrialResult:
    """Return the result as if its method had pools, and each turn had ended as a letter of ``reasons`` says.

    ``+`` reused; the others did not: ``C`` cold question, ``L`` too long a question, ``l`` too long an answer, ``R``
    refused question, ``r`` refused answer, ``t`` refused result of a tool, ``s`` unmet slot of an earlier answer, and
    ``?`` for a reason that is not recorded.
    """
    accounts = {
        "C": ("cold", "user_question"),
        "L": ("too_long", "user_question"),
        "l": ("too_long", "agent_1_current"),
        "R": ("refused", "user_question"),
        "r": ("refused", "agent_2_current"),
        "t": ("refused", "condition_1_current"),
        "s": ("slot_unmet", "agent_1_history_1"),
        "?": (None, None),
        "+": (None, None),
    }
    turns = [
        dataclasses.replace(
            turn,
            mode="reuse" if mark == "+" else "dense",
            anchors_in_pool=turn.sample_index,
            no_reuse_reason=accounts[mark][0],  # type: ignore[arg-type]
            no_reuse_placeholder=accounts[mark][1],
        )
        for turn, mark in zip(result.turns, reasons, strict=True)
    ]
    return dataclasses.replace(result, turns=turns)


def with_picks(result: TrialResult, logprobs: Sequence[Mapping[str, float]]) -> TrialResult:
    """Return the result as if its last agent were a judge, with these log-probabilities of the letters for each sample.

    The judge's text begins with the letter that it picks if its log-probability is above -1. The other agents' answers
    are given: ``candidate 1``, ``candidate 2``, ...
    """
    judge = max(turn.agent_index for turn in result.turns)

    def judged(turn: TurnRecord) -> TurnRecord:
        if turn.agent_index < judge:
            text = f"candidate {turn.agent_index}"
            given = {"stop_reason": "given", "output_text": text, "outcome": None, "extracted": None}
            return dataclasses.replace(turn, **given)  # type: ignore[arg-type]
        own = logprobs[turn.sample_index]
        pick = max(own, key=own.__getitem__)
        text = f" {pick}." if own[pick] > -1 else "Well"
        return dataclasses.replace(turn, letter_logprobs_json=json.dumps(own), extracted=pick, output_text=text)

    return dataclasses.replace(result, turns=[judged(turn) for turn in result.turns])


def with_outcomes(result: TrialResult, outcomes: str) -> TrialResult:
    """Return the result with answers that are correct where ``outcomes`` has a ``+`` and wrong where it has a ``-``."""
    samples = [
        dataclasses.replace(sample, outcome="correct" if mark == "+" else "wrong")
        for sample, mark in zip(result.samples, outcomes, strict=True)
    ]
    return dataclasses.replace(result, samples=samples)
