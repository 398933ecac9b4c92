"""The long prompt of ``kvcomm demo``: one turn of an agent that reads others, ``dense`` and ``kvcomm`` side by side.

Several reporters write one report each, and an editor answers a question about the reports for one reader after
another. The stories in the reports come from the ``recall`` workload's generator. The last report ends with the story
that the question is about. The editor's prompt begins with a description of the reader, so an exact prefix ends there,
and every later key and value differs from reader to reader.

Reuse needs anchors, so ``kvcomm`` first answers earlier readers, whose prompts it prefills in full. The reports are
given instead of decoded, which would take minutes: one forward pass produces the KV that decoding them would leave.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from harness.agents import chat_header, render_segments
from harness.agents.roles import Role
from harness.text import displayed
from harness.workloads import Item
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig, one_line
from kvcomm_core.engine import Engine, Request
from kvcomm_core.fidelity import NextTokenFidelity, compare_next_token
from kvcomm_core.method import Method, answer_placeholder
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds
from kvcomm_core.turn import Turn

_REPORTER = Role("Reporter", "You are a reporter.", "{upstream}\n\nWrite down what you saw.")
_EDITOR = Role(
    "Editor",
    "You are the editor. Answer the question about the reports.",
    "{user_question}\n\n{upstream}\n\nQuestion: <question>\nAnswer in one sentence.",
)
_READERS = (
    "The reader is a young teacher from Vienna.",
    "The reader is an old farmer near Dublin.",
    "The reader is a nurse in Oslo.",
)
"""Texts for the placeholder ``user_question``."""
_FILLER = "..."
_ASKS = "\n\nQuestion: "
_SEED = 0
_TOKENS_OF_A_STORY = 20
"""A lower bound of a story's length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPromptSizes:
    """The sizes of the prompt. The defaults make 3,200 tokens with the embedded model."""

    reporters: int = 3
    """Agents that the editor reads, at least 1."""
    report_tokens: int = 1050
    """Length of each report, longer than any story."""
    answer_tokens: int = 16
    """The most tokens that the editor decodes, at least 1."""


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """The editor's turn in both arms, on the same token ids."""

    question: str
    expected: str
    """The word in the last report that answers the question."""
    dense: Turn
    kvcomm: Turn
    answers: tuple[str, str]
    """Answers as text, dense first."""
    next_token: NextTokenFidelity
    n_earlier: int
    """Readers answered beforehand."""
    prepared_s: float
    """Seconds spent on the earlier readers."""
    prefix_tokens: int
    """Leading tokens of the prompt shared by all readers: all that a prefix cache could reuse."""


Waiting = Callable[..., AbstractContextManager[Callable[[int], None]]]
"""Shows that work is under way: ``sweeps.status.waiting.moving_bar`` on some console."""


def run_long_prompt(model: LoadedModel, sizes: LongPromptSizes, waiting: Waiting) -> LongPrompt:
    """Fill the anchor pools, then time the editor's turn in both arms.

    Raises ``ValueError`` if the turn of ``kvcomm`` did not reuse every segment, since its time would then measure
    something else.
    """
    agents = _Agents(model, sizes)
    # The shortest comes last: an anchor must be at least as long as the text estimated from it.
    *earlier, reader = sorted(map(agents.encode, _READERS), key=len, reverse=True)
    written = sizes.reporters * sizes.report_tokens
    began = time.perf_counter()
    total = len(earlier) * (written + agents.prompt_tokens(reader))
    with waiting(f"kvcomm: prefilling for {len(earlier)} earlier readers", total=total) as advance:
        for learnt in earlier:
            with agents.engines["kvcomm"].open() as request:
                agents.report(request, "kvcomm", learnt, advance)
                advance(len(agents.edit(request, "kvcomm", max_new_tokens=1).prompt))  # an answer that nobody reads
    prepared_s = time.perf_counter() - began

    requests = {arm: engine.open() for arm, engine in agents.engines.items()}
    with waiting("both: the reporters' turns", total=len(requests) * written) as advance:
        for arm, request in requests.items():
            agents.report(request, arm, reader, advance)
    turns: dict[str, Turn] = {}
    for arm, request in requests.items():
        with waiting(f"{arm}: the editor's turn"):
            turns[arm] = agents.edit(request, arm, max_new_tokens=sizes.answer_tokens)
    if turns["kvcomm"].mode != "reuse":
        raise ValueError(f"the editor's turn by kvcomm is {turns['kvcomm'].mode}; wanted: reuse")
    return LongPrompt(
        question=agents.question,
        expected=agents.expected,
        dense=turns["dense"],
        kvcomm=turns["kvcomm"],
        answers=(agents.decode(turns["dense"].answer_ids), agents.decode(turns["kvcomm"].answer_ids)),
        next_token=compare_next_token(turns["dense"].first_logits_V, turns["kvcomm"].first_logits_V),
        n_earlier=len(earlier),
        prepared_s=prepared_s,
        prefix_tokens=len(agents.engines["dense"].templates[agents.editor].texts[0]),
    )


class _Agents:
    """The reporters and the editor, with an engine for each arm."""

    def __init__(self, model: LoadedModel, sizes: LongPromptSizes) -> None:
        self.sizes = sizes
        self.reporters = [str(number) for number in range(1, sizes.reporters + 1)]
        self.editor = str(sizes.reporters + 1)
        assert model.tokenizer is not None  # noqa: S101 - the demo's model has one
        self.tokenizer = model.tokenizer
        # As in the paper's timing, gamma 1 accepts every sample for which enough anchors are long enough.
        header_ids = self.encode(chat_header(model.tokenizer))
        methods: dict[str, Method] = {
            "dense": Dense(),
            "kvcomm": KVComm(model, header_ids, KVCommConfig(gamma=1.0)),
        }
        self.engines = {arm: Engine(model, method, self.encode(_FILLER)) for arm, method in methods.items()}
        # Twice the number needed, since some stories are about the person in the question.
        limit = 2 * sizes.reporters * sizes.report_tokens // _TOKENS_OF_A_STORY
        first, *items = RecallSpec(limit=limit, facts=7, asides=12).load(_SEED)
        told, _, self.question = first.question.partition(_ASKS)
        self.name = next(word for word in self.question.split() if word.istitle() and word in told.split())
        self.expected = first.expected
        self.reports = self._write(items, told)
        editor = replace(_EDITOR, user=_EDITOR.user.replace("<question>", self.question))
        upstream = [(int(number), "Reporter") for number in self.reporters]
        roles: dict[str, tuple[Role, list[tuple[int, str]]]] = {number: (_REPORTER, []) for number in self.reporters}
        roles[self.editor] = (editor, upstream)
        for agent, (role, read) in roles.items():
            template = Template.from_pieces(render_segments(role, read, model.tokenizer), self.encode)
            for engine in self.engines.values():
                engine.register(agent, template)

    def _write(self, items: list[Item], told: str) -> list[TokenIds]:
        """Return the reports. Only the story ``told``, which ends the last one, names the person in the question."""
        stories = (item.question.partition(_ASKS)[0] for item in items if self.name not in item.question)
        rest = iter(self.encode(f"{story}\n") for story in stories)
        reports: list[TokenIds] = []
        for reporter in self.reporters:
            end = self.encode(told) if reporter == self.reporters[-1] else ()
            written: TokenIds = ()
            while len(written) + len(end) < self.sizes.report_tokens:
                written += next(rest)
            reports.append(written[: self.sizes.report_tokens - len(end)] + end)
        return reports

    def prompt_tokens(self, reader: TokenIds) -> int:
        """Return the length of the editor's prompt in tokens."""
        template = self.engines["dense"].templates[self.editor]
        reports = {answer_placeholder(number): ids for number, ids in zip(self.reporters, self.reports, strict=True)}
        return len(template.fill({**reports, "user_question": reader}))

    def report(self, request: Request, arm: str, reader: TokenIds, advance: Callable[[int], None]) -> None:
        """Provide the reader, and take the reporters' turns with the reports as their answers."""
        request.provide("user_question", reader)
        for reporter, report in zip(self.reporters, self.reports, strict=True):
            self.engines[arm].take_turns([request], reporter, max_new_tokens=len(report), answers=[report])
            advance(len(report))

    def edit(self, request: Request, arm: str, *, max_new_tokens: int) -> Turn:
        """Take the editor's turn."""
        return self.engines[arm].take_turns([request], self.editor, max_new_tokens=max_new_tokens)[0]

    def encode(self, text: str) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def decode(self, token_ids: TokenIds) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))


def print_long_prompt(shown: LongPrompt, console: Console) -> None:
    """Print both arms side by side, and how the comparison was made. The output is at most 80 columns wide."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for arm in ("dense", "kvcomm"):
        table.add_column(arm, max_width=28, overflow="fold")
    table.add_row("prompt tokens", *(f"{len(turn.prompt):,}" for turn in (shown.dense, shown.kvcomm)))
    table.add_row("of them computed", *(f"{_computed(turn):,.0f}" for turn in (shown.dense, shown.kvcomm)))
    table.add_row("first token after", *(f"{turn.ttft_s:.2f} s" for turn in (shown.dense, shown.kvcomm)))
    table.add_row("speedup", "", f"{shown.dense.ttft_s / shown.kvcomm.ttft_s:.1f}x")
    same = shown.next_token.top1_agree
    table.add_row("first token", "", f"{'the same' if same else 'another'}, KL {shown.next_token.kl:.3f} nats")
    table.add_row("answer", *(Text(one_line(displayed(answer))) for answer in shown.answers))
    lines = (
        f"Question: {shown.question} By the last report: {shown.expected}.",
        f"Beforehand kvcomm prefilled this prompt in full for {shown.n_earlier} other readers, in "
        f"{shown.prepared_s:.0f} s. They became its anchors, which every later reader reuses.",
        f"The reporters' turns are untimed in both arms. An exact prefix cache would save {shown.prefix_tokens} tokens "
        f"here: the new reader stands before the reports.",
    )
    first, *rest = (Text(line) for line in lines)
    console.print(Group(first, Text(), table, Text(), *rest), soft_wrap=not console.is_terminal)


def _computed(turn: Turn) -> float:
    """Return the tokens that this turn ran through the model before its first token, base KV included."""
    return turn.computed.total - turn.computed.learning
