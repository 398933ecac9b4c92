"""Run one trial: an ordinary function from a spec and a loaded model to a result.

It knows nothing of Ray or of where it runs. A failure inside is a result with its status, not an exception.
"""

import random
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from harness.agents import chat_header, render_segments, roles_for
from harness.blend import blend_device, describe_blend_device, run_blend
from harness.environment import capture_environment, measure_load
from harness.memory import MemoryMeter
from harness.methods import build_method
from harness.records import FidelityRecord, ProbeRecord, SampleRecord, Status, TrialResult, TurnRecord
from harness.rows import PoolBytes, fidelity_records, trial_row, with_metrics
from harness.spec import TrialSpec
from harness.topology import build_topology
from harness.ttft import run_ttft
from harness.turns import turn_record
from harness.workloads import BlendSpec, Item, QuestionSpec, TtftSpec, grade, load
from kvcomm_core.decode import advance, decode_greedily, to_logits
from kvcomm_core.engine import Engine, Turn
from kvcomm_core.fidelity import TurnFidelity, measure_fidelity
from kvcomm_core.kv import KVBuffer
from kvcomm_core.methods import Method, answer_placeholder
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.model import LoadedModel
from kvcomm_core.template import Template, TokenIds

FILLER = "..."
"""Stands in the holes of a template while the base KV of its texts is taken."""


def run_trial(
    spec: TrialSpec,
    model: LoadedModel | None,
    *,
    sweep: str = "",
    attempt: int = 1,
    on_sample: Callable[[int, int], None] | None = None,
) -> TrialResult:
    """Run every item of ``spec`` through its agents, one after another, starting with empty pools; or its timing.

    ``model`` may be None if ``spec`` needs none. ``on_sample(done, total)`` is called after each item or repeat. Only
    ``KeyboardInterrupt`` and its like pass through.
    """
    started_at, load_at_start = datetime.now(UTC), measure_load()
    memory = MemoryMeter([group.device for group in model.layout.groups] if model is not None else [blend_device()])
    memory_at_start = memory.now()
    environment = capture_environment()
    status: Status = "ok"
    error = None
    turns: list[TurnRecord] = []
    samples: list[SampleRecord] = []
    probes: list[ProbeRecord] = []
    fidelity: list[FidelityRecord] = []
    pools: PoolBytes | None = None
    try:
        if isinstance(spec.workload, BlendSpec):
            probes = run_blend(spec, spec.workload, attempt, on_sample)
        elif model is None:
            raise ValueError(f"model is None; the workload {spec.workload.name} needs one")
        elif isinstance(spec.workload, TtftSpec):
            turns, method = run_ttft(spec, spec.workload, model, memory, attempt, on_sample)
            pools = _pool_bytes(method, model)
        else:
            trial = _Trial(spec, spec.workload, model, memory, attempt)
            trial.run(on_sample)
            turns, samples, fidelity = trial.turns, trial.samples, trial.fidelity
            pools = _pool_bytes(trial.method, model)
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
        device=model.describe_device() if model is not None else describe_blend_device(),
        load_at_start=load_at_start,
        memory_start_bytes=memory_at_start,
        memory_peak_bytes=memory.peak(),
    )
    if status != "ok":
        return TrialResult(row)
    return TrialResult(with_metrics(row, turns, samples, pools), turns, samples, fidelity, probes)


def _pool_bytes(method: Method, model: LoadedModel) -> PoolBytes | None:
    """What the anchor pools take; None for a method without any."""
    return PoolBytes.of(method.pools, model.layout.bytes_per_token) if isinstance(method, KVComm) else None


class _Trial:
    """The state of one trial: its items, its agents and its engine."""

    def __init__(
        self, spec: TrialSpec, workload: QuestionSpec, model: LoadedModel, memory: MemoryMeter, attempt: int
    ) -> None:
        if model.tokenizer is None:
            raise ValueError(
                f"model is {spec.model!r}, which has no tokenizer; the workload {spec.workload.name} is text"
            )
        self.spec, self.workload, self.model, self.memory, self.attempt = spec, workload, model, memory, attempt
        self.turns: list[TurnRecord] = []
        self.samples: list[SampleRecord] = []
        self.fidelity: list[FidelityRecord] = []
        self.items = load(spec.workload, spec.seed)
        self.roles = roles_for(spec.workload.name, spec.agents)
        self.topology = build_topology(spec.topology, spec.agents, spec.seed)
        header_ids = self.encode(chat_header(model.tokenizer))
        self.method = build_method(spec, model, header_ids)
        self.engine = Engine(model, self.method, self.encode(FILLER))
        names = {agent_id: role.name for agent_id, role in enumerate(self.roles, start=1)}
        for agent_id, role in enumerate(self.roles, start=1):
            upstream = [(other, names[other]) for other in self.topology.read_by(agent_id)]
            remembered = [(other, names[other]) for other in self.topology.remembered_by(agent_id)]
            for round_ in range(min(spec.rounds, 2)):
                segments = render_segments(role, upstream, model.tokenizer, remembered=remembered if round_ else ())
                template = Template.from_pieces(segments, self.encode)
                self.engine.register(_template(agent_id, round_), template, answers=answer_placeholder(str(agent_id)))

    def run(self, on_sample: Callable[[int, int], None] | None) -> None:
        """Record all turns and samples, in order."""
        self._warm_up()
        for start in range(0, len(self.items), self.spec.batch_size):
            batch = list(enumerate(self.items))[start : start + self.spec.batch_size]
            self._run_batch(batch)
            if on_sample is not None:
                on_sample(len(self.samples), len(self.items))

    def _run_batch(self, batch: list[tuple[int, Item]]) -> None:
        """Take a batch of items through the agents together; record their turns and samples item by item."""
        rows: list[list[TurnRecord]] = [[] for _ in batch]
        with self.engine.open_batch(len(batch)) as requests:
            for request, (_, item) in zip(requests, batch, strict=True):
                request.provide("user_question", self.encode(item.question))
            for round_ in range(self.spec.rounds):
                if round_:
                    for request in requests:
                        request.next_round()
                for agent_id in range(1, self.spec.agents + 1):
                    turns = self.engine.take_turns(
                        requests,
                        _template(agent_id, round_),
                        max_new_tokens=self.spec.max_new_tokens,
                        keep_kv=[
                            row for row, (index, _) in enumerate(batch) if self._is_drawn(index, round_, agent_id)
                        ],
                    )
                    for records, (index, item), turn in zip(rows, batch, turns, strict=True):
                        records.append(self._turn_record(index, item, round_, agent_id, turn))
        for records, (index, item) in zip(rows, batch, strict=True):
            self.turns += records
            self.samples.append(self._sample_record(index, item, records))

    def _sample_record(self, index: int, item: Item, turns: list[TurnRecord]) -> SampleRecord:
        answer = turns[-1].output_text or ""
        verdict = grade(self.workload, item, answer)
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

    def _is_drawn(self, index: int, round_: int, agent_id: int) -> bool:
        """Whether this turn is compared with dense, unless it turns out to be dense itself."""
        # Drawn by sample and number of the turn in it, so that which turns are checked depends on neither method nor
        # batch size.
        number = round_ * self.spec.agents + agent_id
        return random.Random(f"{self.spec.seed} {index} {number}").random() < self.spec.fidelity

    def _turn_record(self, index: int, item: Item, round_: int, agent_id: int, turn: Turn) -> TurnRecord:
        checked: TurnFidelity | None = None
        if turn.prompt_kv is not None and turn.mode != "dense":
            checked = measure_fidelity(self.model, turn, max_new_tokens=self.spec.max_new_tokens)
        record = turn_record(
            self.spec,
            self.attempt,
            turn,
            arm=self.spec.method,
            sample_index=index,
            item_id=item.item_id,
            round=round_,
            agent_index=agent_id,
            agent_role=self.roles[agent_id - 1].name,
            memory_bytes=self.memory.now(),
            checked=checked,
            prompt_text=self.decode(turn.prompt.token_ids),
            output_text=self.decode(turn.answer_ids, skip_special_tokens=True),
        )
        self.fidelity += fidelity_records(record, checked.segments) if checked else []
        return record

    def _warm_up(self) -> None:
        """Run the first prompt once, untimed: the first forward pass of a process pays for one-off set-up."""
        template = self.engine.templates[_template(1, 0)]
        prompt_ids = template.fill(dict.fromkeys(template.holes, self.encode(self.items[0].question))).token_ids
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


def _template(agent_id: int, round_: int) -> str:
    """The engine's name for what an agent is told in a round: all rounds after the first look alike."""
    return f"{agent_id} later" if round_ else str(agent_id)
