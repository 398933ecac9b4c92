"""Run a ``trace`` trial: replay the conversations of a log with one method.

One request goes through the calls of each conversation, so that the method keeps what the conversation computed. A call
without a template is a turn of a second engine, whose method is ``dense``; both engines share what the request knows,
so that later calls read the answer, and the method prefills it alone like any input. With ``prefix`` the first engine
takes such calls, too.
"""

import random
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any, cast

from harness.agents import chat_header
from harness.results.summary import fidelity_records
from harness.results.trial_result import TurnRecord
from harness.traces.segments import SegmentedCall, SegmentedConversation, segmented
from harness.trials.replay_prompts import Encoding, template_of, whole_prompt
from harness.trials.trial_run import TrialRun
from harness.trials.ttft_timing import time_bare
from harness.trials.turn_conversion import turn_record
from harness.workloads.trace import TraceSpec
from kvcomm_core.engine import Engine, Request
from kvcomm_core.fidelity import measure_fidelity
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

FILLER = "..."
"""Text that fills the holes of a template while the base KV of its texts is computed."""

Shared = tuple[int, Template, str]
"""The key that calls of one template share: agent, template, and the placeholder that their answers fill."""


def run_trace(run: TrialRun) -> None:
    """Record a turn for each call of the log, conversation by conversation."""
    assert isinstance(run.spec.workload, TraceSpec)  # noqa: S101 - whose runner this is
    if run.model.tokenizer is None:
        raise ValueError(f"model is {run.spec.model!r}, which has no tokenizer; the workload trace is text")
    run.model.require_chat(decodes=run.spec.workload.answers == "decoded")
    replay = _Replay(run, run.spec.workload)
    for index, conversation in enumerate(replay.conversations):
        run.turns += replay.take(index, conversation)
        run.done(index + 1, len(replay.conversations))
    run.fidelity = replay.fidelity
    run.measure_pools(replay.engine.method)
    run.messages += replay.messages()


class _Replay:
    """The engines of one trial, and the conversations with their templates."""

    def __init__(self, run: TrialRun, workload: TraceSpec) -> None:
        self.run, self.spec, self.workload, self.model = run, run.spec, workload, run.model
        self.conversations, self.agents = segmented(workload.conversations(), workload.shortest)
        self.fidelity = run.fidelity
        self._tokenizer = cast("Any", run.model.tokenizer)
        self._content = cache(self._encode_content)
        encoding = Encoding(self._tokenizer, self._markup, self._content)
        self._shared: dict[int, Shared] = {}
        """By the ``id`` of the call."""
        same: dict[Shared, Shared] = {}
        for call in (call for conversation in self.conversations for call in conversation.calls):
            shared = call.agent, template_of(call, encoding), call.answers
            self._shared[id(call)] = same.setdefault(shared, shared)
        counted = Counter(self._shared.values())
        kept = [shared for shared, _ in counted.most_common(workload.templates)]
        self.templates = {shared: f"{shared[0]} {number}" for number, shared in enumerate(kept, start=1)}
        """The names of the templates that the method gets."""
        self.n_templates, self.without, self.too_long = len(counted), 0, 0

        filler = self._markup(FILLER)
        self.engine = Engine(
            run.model, run.spec.parameters.build(run.model, self._markup(chat_header(self._tokenizer))), filler
        )
        self._second = Engine(run.model, Dense(), filler)
        for (_, template, answers), name in self.templates.items():
            for engine in (self.engine, self._second):
                engine.register(name, template, answers=answers)
        self._warm_up()

    def take(self, index: int, conversation: SegmentedConversation) -> list[TurnRecord]:
        """Take the calls of one conversation. Return the records of their turns."""
        records = []
        with self.engine.open() as request, self._second.open() as second:
            second.values, second.sequences = request.values, request.sequences
            for placeholder, text in conversation.inputs.items():
                request.provide(placeholder, self._content(text))
            for number, call in enumerate(conversation.calls):
                record = self._take_call(index, conversation, number, call, request, second)
                if record is not None:
                    records.append(record)
        if records:
            records[-1] = replace(records[-1], phase_publish_s=request.publish_s)
        return records

    def _take_call(
        self,
        index: int,
        conversation: SegmentedConversation,
        number: int,
        call: SegmentedCall,
        request: Request,
        second: Request,
    ) -> TurnRecord | None:
        """Take one call; None if its prompt is too long for the model."""
        shared = self._shared[id(call)]
        prompt = shared[1].fill(request.values)
        answer = self._content(call.answer) if call.answer else ()
        decoded = self.workload.answers == "decoded"
        limit = self.spec.max_new_tokens if decoded else max(1, len(answer))
        if len(prompt) + limit > self.model.context:
            self.too_long += 1
            request.provide(call.answers, answer)
            return None
        name = self.templates.get(shared)
        engine, taking = self.engine, request
        if name is None:
            self.without += 1
            if not isinstance(engine.method, Prefix):
                engine, taking = self._second, second
            name = self._register_whole(engine, call, prompt.token_ids, request)
        [turn] = engine.take_turns(
            [taking],
            name,
            max_new_tokens=limit,
            answers=None if decoded else [answer],
            keep_kv=[0] if self._is_drawn(index, number) else (),
        )
        return self._record(index, conversation, call, turn, self.templates.get(shared))

    def _register_whole(self, engine: Engine, call: SegmentedCall, token_ids: TokenIds, request: Request) -> str:
        """Register the prompt of a call without a template as one. Return its name."""
        name = f"{call.agent} whole {self.without}"
        engine.register(name, whole_prompt(token_ids, name), answers=call.answers)
        request.provide(name, token_ids[:-1])
        return name

    def _record(
        self, index: int, conversation: SegmentedConversation, call: SegmentedCall, turn: Turn, template: str | None
    ) -> TurnRecord:
        checked = None
        if turn.prompt_kv is not None and not turn.plan.falls_back:
            [checked] = measure_fidelity(self.model, [turn], max_new_tokens=self.spec.max_new_tokens)
        record = turn_record(
            self.spec,
            self.run.attempt,
            turn,
            arm=self.spec.method,
            sample_index=index,
            item_id=conversation.name,
            round=call.turn,
            agent_index=call.agent,
            agent_role=call.call.agent,
            memory_bytes=self.run.memory.now(),
            checked=checked,
            prompt_text=self._text(turn.prompt.token_ids),
            output_text=self._text(turn.answer_ids),
        )
        self.fidelity += fidelity_records(record, checked.segments) if checked else []
        return replace(record, template=template)

    def messages(self) -> list[str]:
        """Return what the log's calls met that is not in their turns."""
        found = []
        if self.without:
            found.append(
                f"trace: {self.without} call(s) had none of the {len(self.templates)} templates (workload.templates is "
                f"{self.workload.templates}, the log has {self.n_templates}) and were taken dense"
            )
        if self.too_long:
            found.append(f"trace: {self.too_long} call(s) are longer than the model's context and were left out")
        return found

    def _is_drawn(self, index: int, number: int) -> bool:
        """Return whether this turn is compared with dense, unless it turns out to be dense itself."""
        return random.Random(f"{self.spec.seed} {index} {number}").random() < self.spec.fidelity

    def _warm_up(self) -> None:
        """Run the first prompt once, untimed, because the first forward pass of a process pays for one-off set-up."""
        first = self.conversations[0]
        contents = {name: self._content(text) for name, text in first.inputs.items()}
        time_bare(self.model, self._shared[id(first.calls[0])][1].fill(contents).token_ids)

    def _markup(self, text: str) -> TokenIds:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _encode_content(self, text: str) -> TokenIds:
        """Return the token ids of the log's text, in which no markup counts as such."""
        return tuple(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _text(self, token_ids: TokenIds) -> str:
        return str(self._tokenizer.decode(token_ids))
