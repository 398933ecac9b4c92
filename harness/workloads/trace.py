"""trace: a log of chat calls, replayed on a model. Nothing is graded, so no labels are needed.

The log has one of the forms that ``harness/traces`` reads, with text. Its conversations are taken one after the other,
in the order in which they begin, and their calls in the order of the log, or by time if all of them have one. Each call
is a turn of its agent: its prompt is rendered by the model's own chat template from the messages of the log, and its
answer is the log's.

``harness/traces/segments.py`` divides the prompts into fixed text and holes: earlier answers, and inputs. Calls of one
agent whose prompts have the same fixed text around the same holes share a template, which the method gets beforehand;
those of the ``templates`` most frequent ones are taken by the method. All others are taken dense, and the trial and its
table say how many. ``prefix`` takes all of them, as it needs no templates.

What this cannot represent:

- Roles other than ``system``, ``user`` and ``assistant``, and what a model's template makes of tools: tool results are
  messages of the user, tool definitions and calls are text. Messages of one role that follow each other are one.
- Prompts longer than the model's context: such calls are left out, their answers stay.
- An answer that a later prompt quotes in part or changed: the quotation is text, or an input.
- What a server caches across conversations, beyond the text before a template's first hole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.traces.conversations import Conversation, read_conversations
from harness.workloads.base import UNUSED_UNGRADED, DataMissingError, ExpectedTurns, Item, Work, Workload
from harness.workloads.questions import CHARACTERS_PER_TOKEN, MARKUP_TOKENS
from kvcomm_core.config import require, require_choice

if TYPE_CHECKING:
    from harness.spec import TrialSpec

Answers = Literal["logged", "decoded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSpec(Workload):
    """Parameters of the ``trace`` workload."""

    runner: ClassVar[str] = "harness.trials.replay:run_trace"
    shown_by: ClassVar[str] = "analysis.tables.trace_table:show_traces"
    instead_of_verdict: ClassVar[str] = (
        "A log was replayed. Its times, reuse and distance from dense are in the tables; nothing was graded."
    )
    unused_fields: ClassVar[tuple[str, ...]] = (
        "agents",
        "rounds",
        "topology",
        *(field for field in UNUSED_UNGRADED if field != "fidelity"),
    )

    name: Literal["trace"] = "trace"

    path: str
    """The log."""

    limit: int | None = None
    """Number of conversations, from the first; None for all. At least 1."""

    shortest: int = 32
    """Number of tokens, as ``harness/traces/tokens.py`` estimates them, from which text that prompts of a conversation
    have in common is an input of its own. At least 8."""

    templates: int = 64
    """Maximum number of templates. Each costs a prefill of its text, and memory for its KV. At least 1."""

    answers: Answers = "logged"
    """The answers that fill the holes. ``logged`` gives those of the log, so that all prompts are the log's own.
    ``decoded`` lets the model answer, with ``max_new_tokens`` at most: later prompts then hold its answers."""

    def __post_init__(self) -> None:
        require(bool(self.path.strip()), "workload.path", self.path, "a log's path")
        require(self.limit is None or self.limit >= 1, "workload.limit", self.limit, "1 or more, or null for all")
        require(self.shortest >= 8, "workload.shortest", self.shortest, "8 or more")
        require(self.templates >= 1, "workload.templates", self.templates, "1 or more")
        require_choice("workload.answers", self.answers, Answers)

    def available(self) -> str | None:
        """Return None if the log is there, else one line saying that it is not."""
        return None if Path(self.path).exists() else f"no such file: {self.path}"

    def conversations(self) -> list[Conversation]:
        """Return the conversations to replay. Raise ``DataMissingError`` if there is no log, and ``TraceError`` (file,
        line and field) if it is malformed or holds fewer."""
        missing = self.available()
        if missing is not None:
            raise DataMissingError(f"trace: {missing}. Set workload.path to a log of chat calls")
        found = read_conversations(Path(self.path), self.limit)
        allowed = f"1 to {len(found)}, the number of conversations in {self.path}"
        require((self.limit or 1) <= len(found), "workload.limit", self.limit, allowed)
        return found

    def load(self, seed: int) -> list[Item]:  # noqa: ARG002 - the log's order counts
        """Return an item per conversation, which counts its calls and characters."""
        return [
            Item(
                one.name,
                question="",
                expected="",
                data={
                    "calls": str(len(one.calls)),
                    "prompt_characters": str(sum(len(m.text) for call in one.calls for m in call.messages)),
                    "answer_characters": str(sum(len(call.answer or "") for call in one.calls)),
                },
            )
            for one in self.conversations()
        ]

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:
        """Return a turn per call; those that are compared with dense are taken once more."""
        calls, prompts, answers = (
            sum(int(item.data[name]) for item in items) for name in ("calls", "prompt_characters", "answer_characters")
        )
        arms = {trial.method: 1.0} | ({"dense": trial.fidelity} if trial.method != "dense" and trial.fidelity else {})
        given = self.answers == "logged"
        return Work(
            tuple(
                ExpectedTurns(
                    count=calls * share,
                    arm=arm,
                    prompt_tokens=MARKUP_TOKENS + prompts / calls / CHARACTERS_PER_TOKEN,
                    output_tokens=answers // calls // CHARACTERS_PER_TOKEN if given else trial.max_new_tokens,
                    given=given,
                )
                for arm, share in arms.items()
            )
        )
