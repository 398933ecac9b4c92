"""Run a ``ttft`` trial: the time to the first token, dense and by the trial's method, within one run.

Four *arms* take the same turns, in an order that changes from turn to turn. ``dense``, ``prefix`` and the trial's
method run through the engine, each with its own request. ``prefix`` is what any server's cache gives, so a speedup over
dense alone would say too much. ``bare`` is one ``model(input_ids, logits_to_keep=1)`` on the dense arm's prompt without
any engine, a check on the engine's dense baseline. A trial of ``dense`` has no arm ``prefix``.

The pools of ``kvcomm`` are filled before anything is timed. The first anchor of each pool comes from a sample whose
turns are really prefilled. The others are copies of it, in memory of their own and under other token ids. Only the size
of an anchor matters for the time of matching and blending, not its content, and prefilling twenty samples of five
agents would take a CPU ten minutes. Then one sample goes through every arm untimed, so that no timed turn is the first
of its shape.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from harness.results.trial_result import TurnRecord
from harness.trials.trial_run import TrialRun
from harness.trials.turn_conversion import bare_record, turn_record
from harness.workloads.ttft import JOINT_TOKENS, TokenSource, TtftSpec, arms_of, build_templates
from kvcomm_core.config import KVCommConfig
from kvcomm_core.engine import Engine, Request
from kvcomm_core.kv import KV
from kvcomm_core.method import Method
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.packed import PackedKV, pack
from kvcomm_core.pools.affine_maps import AffineOffset
from kvcomm_core.pools.anchor_pools import AnchorPool, Summary
from kvcomm_core.pools.anchors import Anchor, Offset
from kvcomm_core.pools.base_values import BaseValues
from kvcomm_core.stopwatch import Stopwatch
from kvcomm_core.template import TokenIds
from kvcomm_core.turn import Turn


def run_ttft(run: TrialRun) -> None:
    """Record the timed turns of all arms, and the bytes of the pools at the end.

    Raise ``ValueError`` if the pools cannot be filled as requested, or if a timed turn of ``kvcomm`` did not reuse
    every segment, since its time would then measure something else.
    """
    assert isinstance(run.spec.workload, TtftSpec)  # noqa: S101 - whose runner this is
    timing = _Timing(run, run.spec.workload)
    timing.fill_pools()
    timing.take_sample("warm-up", None)
    for repeat in range(timing.workload.repeats):
        run.turns += timing.take_sample(f"repeat-{repeat}", repeat)
        run.done(repeat + 1, timing.workload.repeats)
    run.measure_pools(timing.engines[run.spec.method].method)


class _Timing:
    """The engines of one trial, by arm."""

    def __init__(self, run: TrialRun, workload: TtftSpec) -> None:
        # Answers have the requested length, whatever the model would prefer.
        model, spec = replace(run.model, eos_ids=frozenset()), run.spec
        self.spec, self.workload, self.model, self.memory, self.attempt = spec, workload, model, run.memory, run.attempt
        self.source = TokenSource(model.network.config.vocab_size, spec.seed)
        header_ids, filler_ids = self.source.draw(JOINT_TOKENS, "header"), self.source.draw(JOINT_TOKENS, "filler")
        methods: dict[str, Method] = {"dense": Dense(), "prefix": Prefix(model)}
        methods[spec.method] = spec.parameters.build(model, header_ids)
        methods = {arm: methods[arm] for arm in arms_of(spec)}
        self.engines = {arm: Engine(model, method, filler_ids) for arm, method in methods.items()}
        for engine in self.engines.values():
            for agent_id, template in build_templates(workload, spec.agents, self.source).items():
                engine.register(agent_id, template)

    def fill_pools(self) -> None:
        """Fill every pool of ``kvcomm`` to the requested number of anchors."""
        engine = self.engines[self.spec.method]
        method = engine.method
        if not isinstance(method, KVComm):
            return
        method.always_learn = True
        with engine.open() as request:
            request.provide("user_question", self.source.draw(self.workload.input_tokens, "question anchor"))
            for agent_id in engine.templates:
                self._take_turn(engine, request, agent_id, "anchor")
        method.always_learn = False
        for placeholder in list(method.pools):
            self._fill_pool(method.pools[placeholder], placeholder)

    def _fill_pool(self, pool: AnchorPool, placeholder: str) -> None:
        snapshot, wanted = pool.snapshot(), self.workload.anchors
        for index in range(1, wanted) if snapshot.anchors else ():
            (first,) = snapshot.anchors
            # Some estimators have moved the offsets to running sums, which then cover one sample.
            offsets, base = first.offsets, None
            if not offsets:
                offsets = {slot: _only_sample(summary) for slot, summary in snapshot.means.items()}
                base = next(
                    (m.placeholder.sums[0] for m in snapshot.means.values() if isinstance(m, AffineOffset)), None
                )
            token_ids = self.source.draw(len(first), f"{placeholder} anchor {index}")
            pool.add(
                Anchor(
                    token_ids,
                    BaseValues.stored(_copies(first.base_values.groups)),
                    {slot: Offset(_copy(o.placeholder), _copy(o.text)) for slot, o in offsets.items()},
                    _copies(first.base_keys),
                ),
                base,
            )
        if len(pool) != wanted:
            raise ValueError(
                f"the pool of {placeholder} holds {len(pool)} anchors; workload.anchors is {wanted}, which "
                f"kvcomm.pool_bytes does not allow"
            )

    def take_sample(self, name: str, repeat: int | None) -> list[TurnRecord]:
        """Take one question through all agents in every arm. Return records of its turns unless ``repeat`` is None."""
        records: list[TurnRecord] = []
        requests = {arm: engine.open() for arm, engine in self.engines.items()}
        question = self.source.draw(self.workload.input_tokens, f"question {name}")
        for request in requests.values():
            request.provide("user_question", question)
        for agent in range(1, self.spec.agents + 1):
            for arm in _order(list(self.engines), agent + (repeat or 0)):
                if arm == "bare":
                    dense = self.engines["dense"].templates[str(agent)].fill(requests["dense"].values)
                    record = self._bare_record(dense.token_ids, name, repeat, agent)
                else:
                    turn = self._take_turn(self.engines[arm], requests[arm], str(agent), name)
                    self._check(arm, turn)
                    record = turn_record(
                        self.spec,
                        self.attempt,
                        turn,
                        arm=arm,
                        sample_index=repeat or 0,
                        item_id=name,
                        round=0,
                        agent_index=agent,
                        agent_role=f"Agent {agent}",
                        memory_bytes=self.memory.now(),
                    )
                records.append(record)
        for arm, request in requests.items():
            request.close()
            last = max(index for index, record in enumerate(records) if record.arm == arm)
            records[last] = replace(records[last], phase_publish_s=request.publish_s)
        return records if repeat is not None else []

    def _take_turn(self, engine: Engine, request: Request, agent_id: str, sample: str) -> Turn:
        length = self.workload.output_tokens
        answers = None if self.workload.decode else [self.source.draw(length, f"answer {sample} {agent_id}")]
        return engine.take_turns([request], agent_id, max_new_tokens=length, answers=answers)[0]

    def _check(self, arm: str, turn: Turn) -> None:
        if arm != "kvcomm":
            return
        wanted = self.workload.anchors * len(turn.prompt.holes)
        if turn.mode != "reuse":
            raise ValueError(
                f"agent {turn.name}'s turn is {turn.mode} and not reuse: criterion {self._criterion()} does not "
                f"accept the sample. Try kvcomm.gamma 1.0, as the paper's timing has it, or kvcomm.criterion length"
            )
        if turn.plan.anchors != wanted:
            raise ValueError(f"agent {turn.name} found {turn.plan.anchors} anchors in its pools; wanted: {wanted}")

    def _criterion(self) -> str:
        config = self.spec.parameters
        return f"{config.criterion} with gamma {config.gamma}" if isinstance(config, KVCommConfig) else "none"

    def _bare_record(self, token_ids: TokenIds, name: str, repeat: int | None, agent: int) -> TurnRecord:
        return bare_record(
            self.spec,
            self.attempt,
            token_ids,
            time_bare(self.model, token_ids),
            sample_index=repeat or 0,
            item_id=name,
            agent_index=agent,
            agent_role=f"Agent {agent}",
            memory_bytes=self.memory.now(),
        )


@torch.inference_mode()
def time_bare(model: LoadedModel, token_ids: TokenIds) -> float:
    """Return the seconds of one plain forward pass, from the token ids to the first token's id on the host."""
    stopwatch = Stopwatch(model.layout.devices)
    output = model.network(input_ids=torch.tensor([token_ids], device=model.device), logits_to_keep=1)
    output.logits[0, -1].argmax().item()
    return stopwatch.seconds()


def _order(engines: Sequence[str], turn: int) -> list[str]:
    """Return the order in which the arms take turn number ``turn``. Over four turns, dense and the method are early
    equally often, and so is ``bare``; ``prefix`` stands between them."""
    arms = list(engines) if turn % 2 == 0 else list(reversed(engines))
    return [*arms, "bare"] if turn % 4 < 2 else ["bare", *arms]


def _only_sample(summary: Summary) -> Offset:
    """Return the offset of the only sample in running sums."""
    kv = summary.placeholder.sums[1] if isinstance(summary, AffineOffset) else summary.placeholder
    return Offset(pack(KV(kv.keys, kv.values)), pack(KV(summary.text.keys, summary.text.values)))


def _copy(kv: PackedKV) -> PackedKV:
    return PackedKV(
        _copies(kv.keys),
        _copies(kv.values),
        None if kv.key_scales is None else _copies(kv.key_scales),
        None if kv.value_scales is None else _copies(kv.value_scales),
        kv.devices,
    )


def _copies(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(t.clone().pin_memory() if t.is_pinned() else t.clone() for t in tensors)
