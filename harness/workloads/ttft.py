"""ttft: agents that read random tokens, for timing the first token (paper, tables 2 and 3). Nothing is graded.

The agents are fully connected, and all of them are timed: there is no decision agent among them. Let ``text`` be a
short text of ``JOINT_TOKENS`` fixed tokens. The prompt of agent i (from 1) is

    p0 [user_question] text [agent_1_current] text ... [agent_<i-1>_current] text

where p0 is ``prefix_tokens`` fixed tokens of its own. The prompt thus has ``prefix_tokens + input_tokens + (i - 1) *
output_tokens + i * JOINT_TOKENS`` tokens, the same in every repeat. Every token is drawn at random from the whole
vocabulary, so that models without a tokenizer can be timed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.workloads.base import (
    UNUSED_WITHOUT_ANSWERS,
    ExpectedTurns,
    Item,
    Work,
    Workload,
    require_fully_connected,
)
from kvcomm_core.config import KVCommConfig, require
from kvcomm_core.template import Template, TokenIds

if TYPE_CHECKING:
    from harness.spec import TrialSpec

JOINT_TOKENS = 4
"""Length of the text after every hole, and of the stand-ins for the chat header and the filler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TtftSpec(Workload):
    """Parameters of the ``ttft`` workload. The defaults are those of the paper's table 2."""

    runner: ClassVar[str] = "harness.trials.ttft_timing:run_ttft"
    converses: ClassVar[bool] = True
    timing: ClassVar[bool] = True
    shown_by: ClassVar[str] = "analysis.tables.speed_table:show_speed"
    unused_fields: ClassVar[tuple[str, ...]] = UNUSED_WITHOUT_ANSWERS

    name: Literal["ttft"] = "ttft"

    prefix_tokens: int = 512
    """Length of each agent's fixed leading text. At least 1."""

    input_tokens: int = 1024
    """Length of the user question. At least 1."""

    output_tokens: int = 512
    """Length of each agent's answer. At least 1."""

    anchors: int = 20
    """Number of anchors in every pool before anything is timed; methods without pools ignore it. At least 1, and
    with ``kvcomm`` from ``kvcomm.min_anchors`` to ``kvcomm.max_anchors``."""

    repeats: int = 3
    """Number of timed samples, each with a question of its own. At least 1."""

    decode: bool = False
    """Whether answers are decoded, ignoring end-of-sequence tokens, or given as random tokens whose KV takes one
    forward pass. If decoded, each method reads its own answers, all equally long. If given, the methods' prompts are
    equal."""

    def __post_init__(self) -> None:
        for name in ("prefix_tokens", "input_tokens", "output_tokens", "anchors", "repeats"):
            value = getattr(self, name)
            require(value >= 1, f"workload.{name}", value, "1 or more")

    def prompt_tokens(self, agent: int) -> int:
        """Return the length of the prompt of agent number ``agent``, from 1."""
        upstream = (agent - 1) * self.output_tokens
        return self.prefix_tokens + self.input_tokens + upstream + agent * JOINT_TOKENS

    def check(self, trial: "TrialSpec") -> None:
        """Raise ``ValueError`` unless the pools can be filled with ``anchors``."""
        require_fully_connected(trial)
        if isinstance(trial.parameters, KVCommConfig):
            least, most = trial.parameters.min_anchors, trial.parameters.max_anchors
            allowed = f"from kvcomm.min_anchors ({least}) to kvcomm.max_anchors ({most})"
            require(least <= self.anchors <= most, "workload.anchors", self.anchors, allowed)

    def work(self, trial: "TrialSpec", items: Sequence[Item]) -> Work:  # noqa: ARG002 - it has none
        """Return the work: one untimed sample and the repeats in every arm, after the sample that fills the pools."""
        samples, filling = self.repeats + 1, int(isinstance(trial.parameters, KVCommConfig))
        arms = {"bare": samples, **dict.fromkeys(arms_of(trial), samples), "dense": samples + filling}
        return Work(
            tuple(
                ExpectedTurns(
                    count=count,
                    arm=arm,
                    prompt_tokens=self.prompt_tokens(agent),
                    output_tokens=0 if arm == "bare" else self.output_tokens,
                    given=not self.decode,
                )
                for agent in range(1, trial.agents + 1)
                for arm, count in arms.items()
            )
        )


def arms_of(trial: "TrialSpec") -> tuple[str, ...]:
    """Return the arms of a timing that run through the engine: dense, ``prefix`` and the trial's method."""
    return ("dense",) if trial.method == "dense" else tuple(dict.fromkeys(("dense", "prefix", trial.method)))


class TokenSource:
    """Random token ids; equal purposes and seeds give equal ids."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        """``vocabulary`` is the number of ids, which start at 0."""
        self._vocabulary, self._seed = vocabulary, seed

    def draw(self, count: int, purpose: str) -> TokenIds:
        """Return ``count`` ids for a purpose, such as ``question 3``."""
        return tuple(random.Random(f"ttft {self._seed} {purpose}").choices(range(self._vocabulary), k=count))


def build_templates(spec: TtftSpec, agents: int, source: TokenSource) -> dict[str, Template]:
    """Build the templates of agents 1..``agents`` by id, as the module describes them."""
    return {
        str(agent): Template(
            texts=(
                source.draw(spec.prefix_tokens, f"prefix {agent}"),
                *(source.draw(JOINT_TOKENS, f"text {agent} {hole}") for hole in range(agent)),
            ),
            holes=("user_question", *(f"agent_{upstream}_current" for upstream in range(1, agent))),
        )
        for agent in range(1, agents + 1)
    }
