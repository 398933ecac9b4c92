"""Run a trial on questions: each item goes through its agents, whose answers call tools and are graded.

Tools and grades come after the timed part of a turn. They run model-written code only in separate processes, and those
of a batch run side by side.
"""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from harness.agents import chat_header, render_segments
from harness.energy import EnergyMeter
from harness.environment import usable_cores
from harness.results.checkpoint import Checkpoint, TrialState
from harness.results.conversations import turn_latency_s
from harness.results.measurements import FidelityRecord
from harness.results.summary import anchor_records, fidelity_records
from harness.results.trial_result import SampleRecord, TurnRecord
from harness.spec import TrialSpec
from harness.text import storable
from harness.tools.base import ToolResult
from harness.tools.calls import Toolbox
from harness.tools.sandbox.python_sandbox import active_layers, require_safe
from harness.tools.wiki import Wiki
from harness.trials.given_answers import GivenAnswers
from harness.trials.schedules import NextTurn, Talk, items_together, take_in_step, take_refilled
from harness.trials.shards import items_of_shard
from harness.trials.trial_run import TrialRun
from harness.trials.turn_conversion import turn_record
from harness.trials.turn_grading import graded_turn, letter_logprobs
from harness.until import ended_early
from harness.workloads import Item
from kvcomm_core.decode import take_first_steps
from kvcomm_core.engine import Engine
from kvcomm_core.fidelity import TurnFidelity
from kvcomm_core.method import answer_placeholder, condition_placeholder
from kvcomm_core.rows import Rows
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

FILLER = "..."
"""Text that fills the holes of a template while the base KV of its texts is computed."""

WIKI_CACHE = Path("~/.cache/kvcomm/wiki")


def run_questions(run: TrialRun) -> None:
    """Take every item of the trial, or of the shard, through its agents, one batch after another."""
    conversation = Conversation(run)
    run.open_checkpoint()
    if run.checkpoint is not None:
        conversation.resume(run.checkpoint)
    run.resumed_from = len(conversation.samples)
    conversation.run(run.checkpoint)
    run.turns, run.samples, run.fidelity = conversation.turns, conversation.samples, conversation.fidelity
    run.measure_pools(conversation.method)
    if conversation.method.pools is not None:
        run.anchors = anchor_records(run.spec, run.attempt, run.shard, conversation.method.pools)


class Conversation:
    """The state of one trial on questions, or of one shard of it: its items, its agents and its engine."""

    def __init__(self, run: TrialRun, spec: TrialSpec | None = None) -> None:
        """``spec`` is the conversation's spec where it differs from the trial's own."""
        spec, model, workload = spec or run.spec, run.model, (spec or run.spec).workload
        if model.tokenizer is None:
            raise ValueError(f"model is {spec.model!r}, which has no tokenizer; the workload {workload.name} is text")
        self.spec, self.workload, self.model = spec, workload, model
        self.memory, self.attempt, self.done, self.say = run.memory, run.attempt, run.done, run.messages.append
        self.energy = EnergyMeter([group.device for group in model.layout.groups])
        self.turns: list[TurnRecord] = []
        self.samples: list[SampleRecord] = []
        self.fidelity: list[FidelityRecord] = []
        self.items = items_of_shard(workload.load(spec.seed), run.shard, spec.shards)
        self.roles = spec.roles
        if workload.runs_model_code(self.roles):
            require_safe(run.allow_unsafe_code)
            run.sandbox_layers = " ".join(active_layers())
        self.toolbox = Toolbox(
            Wiki(cache=WIKI_CACHE.expanduser()) if workload.looks_up else None, run.allow_unsafe_code
        )
        self.topology = spec.graph
        self.given = GivenAnswers(spec, model, self.encode_content)
        header_ids = self.encode(chat_header(model.tokenizer))
        self.method = spec.parameters.build(model, header_ids)
        self.engine = Engine(model, self.method, self.encode(FILLER))
        names = {agent_id: role.name for agent_id, role in enumerate(self.roles, start=1)}
        with_tool = {agent_id for agent_id, role in enumerate(self.roles, start=1) if role.tool}
        for agent_id, role in enumerate(self.roles, start=1):
            upstream = [(other, names[other]) for other in self.topology.read_by(agent_id)]
            remembered = [(other, names[other]) for other in self.topology.remembered_by(agent_id)]
            for round_ in range(min(spec.rounds, 2)):
                segments = render_segments(
                    role, upstream, model.tokenizer, remembered=remembered if round_ else (), with_tool=with_tool
                )
                template = Template.from_pieces(segments, self.encode)
                self.engine.register(_template(agent_id, round_), template, answers=answer_placeholder(str(agent_id)))
        read = {hole for template in self.engine.templates.values() for hole in template.holes}
        self.tool_users = {agent_id for agent_id in with_tool if condition_placeholder(str(agent_id)) in read}
        self.rows = Rows(self.engine, spec.batch_size)
        """Rows of the items of a wave."""
        self.helpers = ThreadPoolExecutor(usable_cores())

    def resume(self, checkpoint: Checkpoint) -> None:
        """Resume from the state that an earlier attempt left, if any; its records become those of this attempt."""
        state = checkpoint.load()
        if state is None:
            return
        done = [sample.item_id for sample in state.samples]
        if done != [item.item_id for _, item in self.items[: len(done)]]:
            checkpoint.set_aside("its items are not those of the workload")
            return
        self.turns = [replace(record, attempt=self.attempt) for record in state.turns]
        self.samples = [replace(record, attempt=self.attempt) for record in state.samples]
        self.fidelity = [replace(record, attempt=self.attempt) for record in state.fidelity]
        self.method.restore(state.method_state, state.tensors)

    def run(self, checkpoint: Checkpoint | None = None) -> None:
        """Record all missing turns and samples, in order."""
        self._warm_up()
        take = take_refilled if self.spec.wave else take_in_step
        with self.helpers:
            while left := self.items[len(self.samples) :]:
                if (why := ended_early(self.spec, self.turns, self.samples)) is not None:
                    self.say(why)
                    break
                self._close(take(self, left[: items_together(self.spec, len(self.samples))]))
                self.done(len(self.samples), len(self.items))
                # The last checkpoint of a shard stays until the other shards are done, and spares this shard another
                # run.
                ended = len(self.samples) == len(self.items)
                if checkpoint is not None and (self.spec.shards > 1 if ended else checkpoint.is_due()):
                    state = TrialState(self.turns, self.samples, self.fidelity, *self.method.describe_state())
                    checkpoint.save(state, self.attempt)

    def next_turn(self, talk: Talk) -> NextTurn:
        """Return what an item's next turn needs. Begin the next round if the last one is over."""
        round_, before = divmod(len(talk.turns), self.spec.agents)
        if round_ and not before:
            talk.request.next_round()
        agent_id = before + 1
        return NextTurn(
            round_,
            agent_id,
            _template(agent_id, round_),
            self._longest(agent_id),
            keeps_kv=self._is_drawn(talk.index, round_, agent_id),
        )

    def is_over(self, talk: Talk) -> bool:
        """Return whether an item has taken all its turns."""
        return len(talk.turns) == self.spec.rounds * self.spec.agents

    def record(self, talks: Sequence[Talk], turns: Sequence[Turn], checks: Sequence[TurnFidelity | None]) -> None:
        """Record a turn of each item, and call the tools with their answers, side by side."""
        made = [self._turn_record(*one) for one in zip(talks, turns, checks, strict=True)]
        callers = [number for number, record in enumerate(made) if record.agent_index in self.tool_users]
        if callers:
            start = time.perf_counter()
            calls = [(talks[number].item, made[number]) for number in callers]
            results = list(self.helpers.map(lambda call: self._call_tool(*call), calls))
            seconds = time.perf_counter() - start
            for number, result in zip(callers, results, strict=True):
                agent_id = made[number].agent_index
                talks[number].request.provide(condition_placeholder(str(agent_id)), self.encode_content(result.text))
                made[number] = replace(
                    made[number],
                    tool=self.roles[agent_id - 1].tool,
                    tool_outcome=result.outcome,
                    tool_text=result.text,
                    tool_s=seconds,
                )
        for talk, record in zip(talks, made, strict=True):
            talk.turns.append(record)

    def _close(self, talks: Sequence[Talk]) -> None:
        """Record items that have taken all their turns, in their order."""
        energy_j = self.energy.taken()
        each_j = None if energy_j is None else energy_j / len(talks)
        for talk in talks:
            talk.turns[-1] = replace(talk.turns[-1], phase_publish_s=talk.request.publish_s)
            graded = self._graded(talk.item, talk.turns)
            self.turns += graded
            self.samples.append(self._sample_record(talk.index, talk.item, graded, each_j))
            self.fidelity += talk.fidelity

    def _call_tool(self, item: Item, turn: TurnRecord) -> ToolResult:
        """Call the agent's tool with its answer, whose result will fill ``condition_<id>_current``."""
        tool = self.roles[turn.agent_index - 1].tool
        assert tool is not None  # noqa: S101 - it is a tool user
        return self.toolbox.call(tool, item.data, turn.output_text or "")

    def _graded(self, item: Item, turns: list[TurnRecord]) -> list[TurnRecord]:
        """Return the turns of one item, each answer graded as if it were the final one."""
        allow_unsafe = self.toolbox.allow_unsafe
        return list(
            self.helpers.map(lambda turn: graded_turn(self.workload, item, turn, allow_unsafe=allow_unsafe), turns)
        )

    def _sample_record(self, index: int, item: Item, turns: list[TurnRecord], energy_j: float | None) -> SampleRecord:
        last = turns[self.topology.decision_agent - 1 - self.spec.agents]  # of the last round
        assert last.grade_rule is not None  # noqa: S101 - the turns are graded
        return SampleRecord(
            trial_id=self.spec.trial_id,
            attempt=self.attempt,
            sample_index=index,
            item_id=item.item_id,
            answer_text=last.output_text or "",
            extracted=last.extracted,
            expected=item.expected,
            outcome=last.outcome,
            grade_rule=last.grade_rule,
            latency_s=sum(map(turn_latency_s, turns)),
            ttft_sum_s=sum(turn.ttft_s for turn in turns),
            decode_sum_s=sum(turn.decode_s for turn in turns),
            energy_j=energy_j,
        )

    def _longest(self, agent_id: int) -> int:
        """Return the maximum length of an agent's answer, in tokens."""
        return self.roles[agent_id - 1].max_new_tokens or self.spec.max_new_tokens

    def _is_drawn(self, index: int, round_: int, agent_id: int) -> bool:
        """Return whether this turn is compared with dense, unless it turns out to be dense itself."""
        # Draw by sample and by the turn's number in it, so that the checked turns depend on neither method nor batch
        # size.
        number = round_ * self.spec.agents + agent_id
        return random.Random(f"{self.spec.seed} {index} {number}").random() < self.spec.fidelity

    def _turn_record(self, talk: Talk, turn: Turn, checked: TurnFidelity | None) -> TurnRecord:
        round_, agent_id = talk.now.round, talk.now.agent_id
        record = turn_record(
            self.spec,
            self.attempt,
            turn,
            arm=self.spec.method,
            sample_index=talk.index,
            item_id=talk.item.item_id,
            round=round_,
            agent_index=agent_id,
            agent_role=self.roles[agent_id - 1].name,
            memory_bytes=self.memory.now(),
            started_us=talk.started_us,
            checked=checked,
            prompt_text=self.decode(turn.prompt.token_ids),
            output_text=self.decode(turn.answer_ids, skip_special_tokens=True),
        )
        talk.fidelity += fidelity_records(record, checked.segments) if checked else []
        if self.workload.picks and agent_id == self.topology.decision_agent:
            letters = letter_logprobs(
                turn.first_logits_V, {one: self.encode_content(one) for one in talk.item.candidates}
            )
            record = replace(record, letter_logprobs_json=letters)
        return record

    def _warm_up(self) -> None:
        """Run the first prompt once, untimed, because the first forward pass of a process pays for one-off set-up."""
        template = self.engine.templates[_template(1, 0)]
        prompt_ids = template.fill(
            dict.fromkeys(template.holes, self.encode_content(self.items[0][1].question))
        ).token_ids
        take_first_steps(self.model, prompt_ids)

    def encode(self, text: str) -> TokenIds:
        """Return the token ids of a piece of a template. Chat markup counts as markup; the tokenizer adds no special
        tokens of its own."""
        assert self.model.tokenizer is not None  # noqa: S101 - checked when the trial began
        return tuple(self.model.tokenizer(text, add_special_tokens=False).input_ids)

    def encode_content(self, text: str) -> TokenIds:
        """Return the token ids of text that fills a hole: a question, or a tool's result.

        Such text is never markup: ``<|im_start|>`` in it becomes the tokens of these characters, and cannot open a turn
        in an agent's prompt. Answers do not pass through here, because agents read the very tokens that another agent
        generated. A model that writes the characters passes on ordinary tokens. One that generates the special token
        itself passes on that token, as ``prompt_text`` shows, since its KV already exists and other tokens would not be
        its answer.
        """
        assert self.model.tokenizer is not None  # noqa: S101 - checked when the trial began
        ids = self.model.tokenizer(storable(text), add_special_tokens=False, split_special_tokens=True).input_ids
        return tuple(ids)

    def decode(self, token_ids: TokenIds, *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""
        assert self.model.tokenizer is not None  # noqa: S101 - checked when the trial began
        return str(self.model.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens))


def _template(agent_id: int, round_: int) -> str:
    """Return the engine's name for an agent's template in a round: all rounds after the first look alike."""
    return f"{agent_id} later" if round_ else str(agent_id)
