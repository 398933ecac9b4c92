"""An attempt: a turn's estimated KV in a buffer of its own, so that it can be tried without being used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.decode import advance, to_logits
from kvcomm_core.kv import KVBuffer
from kvcomm_core.method import AgentTurn
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import Recomputed, recompute_and_advance
from kvcomm_core.selection.recompute_choice import RecomputeChoice
from kvcomm_core.template import Prompt, Span


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a turn before its KV is written."""

    template: str
    """The template's name."""
    samples: int
    """Samples from which the estimate was made: the fewest over the turn's holes."""
    estimated_tokens: int
    """Tokens of the holes that are estimated, and of the texts after them."""
    unseen_tokens: int
    """Tokens of the holes that lie beyond the longest sample, so that their offset was never measured."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A prompt whose KV was assembled and whose last tokens ran."""

    logits_V: Tensor
    """Logits of the next token, float32."""
    row: KVBuffer
    """The KV of the whole prompt."""
    recomputed: Recomputed
    """The tokens recomputed in it, those run after the supplied ones included."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A turn that may reuse. Nothing is computed before it is asked for."""

    model: LoadedModel
    turn: AgentTurn
    facts: Facts
    supplied: int
    """Number of the prompt's first tokens that are written, not run."""
    choice: RecomputeChoice
    lost: Sequence[Span]
    """Spans without an estimate, which are recomputed."""
    write: Callable[[KVBuffer, bool], None]
    """Writes the supplied tokens into a row, with their offsets or without."""

    @torch.inference_mode()
    def run(self, *, corrected: bool = True) -> Tried:
        """Assemble the prompt and run what is left of it; ``corrected=False`` leaves all offsets out, so that keys are
        rotated and nothing more."""
        prompt = self.turn.prompt
        row = KVBuffer(self.model.layout, rows=1, capacity=len(prompt))
        self.write(row, corrected)
        pending = self.choice.choose(self.model, prompt, self.supplied, row, self.lost)
        hidden_BE, done = recompute_and_advance(self.model, prompt.token_ids, row, self.supplied, pending)
        logits_V = to_logits(self.model, hidden_BE)[0]
        ran_T = torch.arange(self.supplied, len(prompt))
        tokens = done.computed_tokens + len(prompt) - self.supplied
        return Tried(logits_V, row, Recomputed(torch.cat([done.positions_T, ran_T]), tokens))


@torch.inference_mode()
def run_dense(model: LoadedModel, prompt: Prompt) -> tuple[Tensor, KVBuffer]:
    """Return the logits after dense prefill of a prompt, ``[V]`` float32, and the KV of all its tokens."""
    row = KVBuffer(model.layout, rows=1, capacity=len(prompt))
    return to_logits(model, advance(model, [prompt.token_ids], row))[0], row
