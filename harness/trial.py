"""Run one trial: an ordinary function from a spec and a loaded model to a result.

It knows nothing of Ray or of where it runs. A failure inside is a result with its status, not an exception.
"""

import hashlib
import json
import random
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from harness.agents import chat_header, render_segments, roles_for
from harness.environment import capture_environment
from harness.records import FidelityRecord, SampleRecord, Status, TrialResult, TurnRecord
from harness.rows import PoolBytes, fidelity_records, trial_row, with_metrics
from harness.spec import TrialSpec
from harness.topology import build_topology
from harness.workloads import Item, grade, load
from kvcomm_core.decode import advance, decode_greedily, to_logits
from kvcomm_core.engine import Engine, Turn
from kvcomm_core.fidelity import TurnFidelity, measure_fidelity
from kvcomm_core.kv import KVBuffer
from kvcomm_core.methods import Method
from kvcomm_core.methods.cacheblend import CacheBlend
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.naive import Naive
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.model import LoadedModel
from kvcomm_core.template import Template, TokenIds

FILLER = "..."
"""Stands in the holes of a template while the base KV of its texts is taken."""


def run_trial(
    spec: TrialSpec,
    model: LoadedModel,
    *,
    sweep: str = "",
    attempt: int = 1,
    on_sample: Callable[[int, int], None] | None = None,
) -> TrialResult:
    """Run every item of ``spec`` through its agents, one after another, starting with empty pools.

    ``on_sample(done, total)`` is called after each item. Only ``KeyboardInterrupt`` and its like pass through.
    """
    started_at = datetime.now(UTC)
    environment = capture_environment()
    status: Status = "ok"
    error = None
    try:
        trial = _Trial(spec, model, attempt)
        trial.run(on_sample)
    except (torch.OutOfMemoryError, MemoryError):
        status, error = "oom", traceback.format_exc()
    except Exception:  # noqa: BLE001 - a failed trial is a row, whatever failed
        status, error = "error", traceback.format_exc()
    row = trial_row(
        spec,
        status,
        error,
        sweep=sweep,
        attempt=attempt,
        started_at=started_at,
        environment=environment,
        device=model.describe_device(),
    )
    if status != "ok":
        return TrialResult(row)
    row = with_metrics(row, trial.turns, trial.samples, trial.pool_bytes())
    return TrialResult(row, trial.turns, trial.samples, trial.fidelity)


class _Trial:
    """The state of one trial: its items, its agents and its engine."""

    def __init__(self, spec: TrialSpec, model: LoadedModel, attempt: int) -> None:
        if model.tokenizer is None:
            raise ValueError(
                f"model is {spec.model!r}, which has no tokenizer; the workload {spec.workload.name} is text"
            )
        self.spec, self.model, self.attempt = spec, model, attempt
        self.turns: list[TurnRecord] = []
        self.samples: list[SampleRecord] = []
        self.fidelity: list[FidelityRecord] = []
        self.items = load(spec.workload, spec.seed)
        self.roles = roles_for(spec.workload.name, spec.agents)
        self.topology = build_topology(spec.topology, spec.agents)
        header_ids = self.encode(chat_header(model.tokenizer))
        self.method = _build_method(spec, model, header_ids)
        self.engine = Engine(model, self.method, self.encode(FILLER))
        for agent_id, role in enumerate(self.roles, start=1):
            upstream = [(other, self.roles[other - 1].name) for other in self.topology.read_by(agent_id)]
            segments = render_segments(role, upstream, model.tokenizer)
            self.engine.register(str(agent_id), Template.from_pieces(segments, self.encode))

    def run(self, on_sample: Callable[[int, int], None] | None) -> None:
        """Record all turns and samples, in order."""
        self._warm_up()
        for start in range(0, len(self.items), self.spec.batch_size):
            batch = list(enumerate(self.items))[start : start + self.spec.batch_size]
            self._run_batch(batch)
            if on_sample is not None:
                on_sample(len(self.samples), len(self.items))

    def pool_bytes(self) -> PoolBytes | None:
        """What the anchor pools take; None for a method without any."""
        if not isinstance(self.method, KVComm):
            return None
        return PoolBytes.of(self.method.pools, self.model.layout.bytes_per_token)

    def _run_batch(self, batch: list[tuple[int, Item]]) -> None:
        """Take a batch of items through the agents together; record their turns and samples item by item."""
        rows: list[list[TurnRecord]] = [[] for _ in batch]
        with self.engine.open_batch(len(batch)) as requests:
            for request, (_, item) in zip(requests, batch, strict=True):
                request.provide("user_question", self.encode(item.question))
            for agent_id in range(1, self.spec.agents + 1):
                turns = self.engine.take_turns(
                    requests,
                    str(agent_id),
                    max_new_tokens=self.spec.max_new_tokens,
                    keep_kv=[row for row, (index, _) in enumerate(batch) if self._is_drawn(index, agent_id)],
                )
                for records, (index, item), turn in zip(rows, batch, turns, strict=True):
                    records.append(self._turn_record(index, item, agent_id, turn))
        for records, (index, item) in zip(rows, batch, strict=True):
            self.turns += records
            self.samples.append(self._sample_record(index, item, records))

    def _sample_record(self, index: int, item: Item, turns: list[TurnRecord]) -> SampleRecord:
        answer = turns[-1].output_text
        verdict = grade(self.spec.workload, item, answer)
        return SampleRecord(
            trial_id=self.spec.trial_id,
            attempt=self.attempt,
            sample_index=index,
            item_id=item.item_id,
            answer_text=answer,
            extracted=verdict.extracted,
            expected=item.expected,
            outcome=verdict.outcome,
            grade_rule=verdict.rule,
            latency_s=sum(turn.ttft_s + turn.decode_s + turn.phase_store_s for turn in turns),
        )

    def _is_drawn(self, index: int, agent_id: int) -> bool:
        """Whether this turn is compared with dense, unless it turns out to be dense itself."""
        # Drawn by sample and agent, so that which turns are checked depends on neither method nor batch size.
        return random.Random(f"{self.spec.seed} {index} {agent_id}").random() < self.spec.fidelity

    def _turn_record(self, index: int, item: Item, agent_id: int, turn: Turn) -> TurnRecord:
        checked: TurnFidelity | None = None
        if turn.prompt_kv is not None and turn.mode != "dense":
            checked = measure_fidelity(self.model, turn, max_new_tokens=self.spec.max_new_tokens)
        answer = checked.answer if checked else None
        ids = turn.prompt.token_ids
        record = TurnRecord(
            trial_id=self.spec.trial_id,
            attempt=self.attempt,
            sample_index=index,
            item_id=item.item_id,
            round=0,
            agent_index=agent_id,
            agent_role=self.roles[agent_id - 1].name,
            mode=turn.mode,
            batch_size=turn.batch_size,
            prompt_tokens=len(ids),
            reused_tokens=turn.plan.reused_text_tokens + turn.plan.reused_placeholder_tokens,
            reused_text_tokens=turn.plan.reused_text_tokens,
            reused_placeholder_tokens=turn.plan.reused_placeholder_tokens,
            output_tokens=len(turn.answer_ids),
            stop_reason=turn.stop_reason,
            ttft_s=turn.ttft_s,
            ttft_paper_s=turn.ttft_paper_s,
            phase_base_kv_s=turn.phases_s.get("base_kv", 0.0),
            phase_match_s=turn.phases_s.get("match", 0.0),
            phase_blend_s=turn.phases_s.get("blend", 0.0),
            phase_recompute_s=turn.phases_s.get("recompute", 0.0),
            phase_prefill_s=turn.phases_s["prefill"],
            phase_store_s=turn.phases_s["store"],
            decode_s=turn.decode_s,
            anchors_in_pool=turn.plan.anchors,
            pool_bytes=turn.plan.pool_bytes,
            kl_next_token=checked.next_token.kl if checked else None,
            top1_agree=checked.next_token.top1_agree if checked else None,
            first_divergence=answer.first_divergence if answer else None,
            greedy_agreement=answer.agreement if answer else None,
            key_cosine=checked.mean_cosine("keys") if checked else None,
            value_cosine=checked.mean_cosine("values") if checked else None,
            prompt_sha256=hashlib.sha256(json.dumps(ids).encode()).hexdigest(),
            prompt_text=self.decode(ids),
            output_text=self.decode(turn.answer_ids, skip_special_tokens=True),
        )
        self.fidelity += fidelity_records(record, checked.segments) if checked else []
        return record

    def _warm_up(self) -> None:
        """Run the first prompt once, untimed: the first forward pass of a process pays for one-off set-up."""
        values = dict.fromkeys(self.engine.templates["1"].holes, self.encode(self.items[0].question))
        prompt_ids = self.engine.templates["1"].fill(values).token_ids
        buffer = KVBuffer(self.model.layout, rows=1, capacity=len(prompt_ids) + 2)
        first_ids = to_logits(self.model, advance(self.model, [prompt_ids], buffer)).argmax(dim=-1).tolist()
        decode_greedily(
            self.model,
            first_ids,
            buffer,
            positions=[len(prompt_ids)],
            visible_BC=None,
            max_new_tokens=2,
            eos_ids=(),
        )

    def encode(self, text: str) -> TokenIds:
        """Token ids of a piece of a prompt, without special tokens of the tokenizer's own."""
        assert self.model.tokenizer is not None  # noqa: S101 - checked when the trial began
        return tuple(self.model.tokenizer(text, add_special_tokens=False).input_ids)

    def decode(self, token_ids: TokenIds, *, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        assert self.model.tokenizer is not None  # noqa: S101 - checked when the trial began
        return str(self.model.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens))


def _build_method(spec: TrialSpec, model: LoadedModel, header_ids: TokenIds) -> Method:
    if spec.kvcomm is not None:
        return KVComm(model, header_ids, spec.kvcomm)
    if spec.cacheblend is not None:
        return CacheBlend(model, header_ids, spec.cacheblend)
    if spec.method == "naive":
        return Naive(model, header_ids)
    return Prefix(model) if spec.method == "prefix" else Dense()
