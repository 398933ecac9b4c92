"""The long prompt of ``kvcomm demo``: one turn of an agent that reads others, dense and by ``kvcomm`` side by side.

Several reporters write a report each, and an editor answers a question about them for one reader after another. The
stories in the reports are generated as those of the ``recall`` workload; the one that is asked for ends the last
report. The editor's prompt begins with who the reader is, so an exact prefix ends there, and every key and value after
it differs from reader to reader.

Reuse needs anchors, so ``kvcomm`` first answers earlier readers, whose prompts are prefilled in full. Reports are given
instead of decoded, which would take minutes: one forward pass makes the KV that decoding them would have left.
"""

import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from harness.agents import chat_header, render_segments
from harness.agents.roles import Role
from harness.workloads import Item
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import KVCommConfig
from kvcomm_core.engine import Engine, Request, Turn
from kvcomm_core.fidelity import NextTokenFidelity, compare_next_token
from kvcomm_core.method import Method, answer_placeholder
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import Template, TokenIds

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
"""What stands in the hole ``user_question``."""
_FILLER = "..."
_ASKS = "\n\nQuestion: "
_SEED = 0
_TOKENS_OF_A_STORY = 20
"""Fewer than any story has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPromptSizes:
    """How long the prompt is. The defaults make 3,200 tokens with the embedded model."""

    reporters: int = 3
    """Agents that the editor reads. At least 1."""
    report_tokens: int = 1050
    """Length of each report. More than a story has."""
    answer_tokens: int = 16
    """The most tokens that the editor decodes. At least 1."""


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """The editor's turn in both arms, on the same token ids."""

    question: str
    expected: str
    """The word of the last report that answers it."""
    dense: Turn
    kvcomm: Turn
    answers: tuple[str, str]
    """As text, dense first."""
    next_token: NextTokenFidelity
    n_earlier: int
    """Readers who were answered beforehand."""
    prepared_s: float
    """Seconds that this took."""
    prefix_tokens: int
    """Of the prompt, the first ones that are the same for every reader: all that a prefix cache could reuse."""


class Waiting(Protocol):
    """Shows that something is under way; see ``sweeps.status.waiting``."""

    def __call__(self, text: str, *, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """A context that yields a function, which adds to what is done out of ``total``."""


def run_long_prompt(model: LoadedModel, sizes: LongPromptSizes, waiting: Waiting) -> LongPrompt:
    """Fill the anchor pools, then time the editor's turn in both arms.

    Raises ``ValueError`` if the turn of ``kvcomm`` reused less than every segment, as its time would then be that of
    something else.
    """
    agents = _Agents(model, sizes)
    # The shortest comes last: an anchor must be at least as long as what is estimated from it.
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
    """Reporters and editor, with an engine for each arm."""

    def __init__(self, model: LoadedModel, sizes: LongPromptSizes) -> None:
        self.model, self.sizes = model, sizes
        self.reporters = [str(number) for number in range(1, sizes.reporters + 1)]
        self.editor = str(sizes.reporters + 1)
        assert model.tokenizer is not None  # noqa: S101 - the demo's model has one
        # As in the paper's timing, gamma 1 accepts every sample that enough anchors are long enough for.
        header_ids = self.encode(chat_header(model.tokenizer))
        methods: dict[str, Method] = {
            "dense": Dense(),
            "kvcomm": KVComm(model, header_ids, KVCommConfig(gamma=1.0)),
        }
        self.engines = {arm: Engine(model, method, self.encode(_FILLER)) for arm, method in methods.items()}
        # Twice as many as are needed, since some stories tell of the person who is asked for.
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
        """The reports, the last of which ends with the story ``told``; no other story tells of the same people."""
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
        """Length of the editor's prompt."""
        template = self.engines["dense"].templates[self.editor]
        reports = {answer_placeholder(number): ids for number, ids in zip(self.reporters, self.reports, strict=True)}
        return len(template.fill({**reports, "user_question": reader}))

    def report(self, request: Request, arm: str, reader: TokenIds, advance: Callable[[int], None]) -> None:
        """Say who the reader is, and take the reporters' turns, whose answers are the reports."""
        request.provide("user_question", reader)
        for reporter, report in zip(self.reporters, self.reports, strict=True):
            self.engines[arm].take_turns([request], reporter, max_new_tokens=len(report), answers=[report])
            advance(len(report))

    def edit(self, request: Request, arm: str, *, max_new_tokens: int) -> Turn:
        """The editor's turn."""
        return self.engines[arm].take_turns([request], self.editor, max_new_tokens=max_new_tokens)[0]

    def encode(self, text: str) -> TokenIds:
        assert self.model.tokenizer is not None  # noqa: S101
        return tuple(self.model.tokenizer(text, add_special_tokens=False).input_ids)

    def decode(self, token_ids: TokenIds) -> str:
        assert self.model.tokenizer is not None  # noqa: S101
        return str(self.model.tokenizer.decode(token_ids, skip_special_tokens=True))


def print_long_prompt(shown: LongPrompt, console: Console) -> None:
    """Both arms side by side, and what one has to know to believe it. At most 80 columns wide."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for arm in ("dense", "kvcomm"):
        table.add_column(arm, max_width=28, overflow="fold")
    table.add_row("prompt tokens", *(f"{len(turn.prompt):,}" for turn in (shown.dense, shown.kvcomm)))
    table.add_row("of them computed", *(f"{_computed(turn):,}" for turn in (shown.dense, shown.kvcomm)))
    table.add_row("first token after", *(f"{turn.ttft_s:.2f} s" for turn in (shown.dense, shown.kvcomm)))
    table.add_row("speedup", "", f"{shown.dense.ttft_s / shown.kvcomm.ttft_s:.1f}x")
    same = shown.next_token.top1_agree
    table.add_row("first token", "", f"{'the same' if same else 'another'}, KL {shown.next_token.kl:.3f} nats")
    table.add_row("answer", *(Text(_one_line(answer)) for answer in shown.answers))
    lines = (
        f"Question: {shown.question} By the last report: {shown.expected}.",
        f"Beforehand kvcomm prefilled this prompt in full for {shown.n_earlier} other readers, in "
        f"{shown.prepared_s:.0f} s. They became its anchors, which every later reader reuses.",
        f"The reporters' turns are untimed in both arms. An exact prefix cache would save {shown.prefix_tokens} tokens "
        f"here: the new reader stands before the reports.",
    )
    first, *rest = (Text(line) for line in lines)
    console.print(Group(first, Text(), table, Text(), *rest), soft_wrap=not console.is_terminal)


def _one_line(text: str) -> str:
    """What a model wrote, without anything that a terminal would obey."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _computed(turn: Turn) -> int:
    """Prompt tokens that this turn computed, the reader, whom ``kvcomm`` prefills alone, included."""
    new = len(turn.prompt.holes[0]) if turn.phases_s.get("base_kv", 0.0) and turn.mode == "reuse" else 0
    return len(turn.prompt) - turn.plan.reused_text_tokens - turn.plan.reused_placeholder_tokens + new


def print_next_steps(location: str, sweep: str, python: str, kvcomm: str, console: Console) -> None:
    """Where the results lie, how to see them, and what comes next; ``python`` and ``kvcomm`` as a shell finds them."""
    folder = f"{location.rstrip('/')}/{sweep}"
    code = f"import pandas; print(pandas.read_parquet({f'{folder}/turns'!r}).groupby('mode').ttft_s.median())"
    lines = (
        f"Parquet: {folder}/{{trials,turns,samples}}/*.parquet",
        f"pandas:  {python} -c {shlex.quote(code)}",
        f"MLflow:  {kvcomm} ui {shlex.quote(location)}",
        f"next:    README.md, or change a copy of sweeps/smoke.yaml and {kvcomm} run it",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
