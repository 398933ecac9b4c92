"""Count the tokens that an engine chooses otherwise than transformers does, and say how close those choices were.

Every engine goes along the same texts, token by token as in decoding, and says at each position which token it would
choose. So a different choice does not lead to a different text, and all positions count alike. The texts are random
tokens, after which the model is least sure: a sum that is ordered anew changes more choices there than in an answer.
transformers with another number of threads orders its sums anew, too. That is the noise to compare with.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kvcomm_core.decode import advance_rows, to_logits
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds
from sweeps.bench.arms import plain_network

Texts = Sequence[TokenIds]
Follow = Callable[[Texts, int], list[Tensor]]
"""Takes texts and the length of the prompt that each begins with. Returns for each text the logits ``[N, V]`` after the
prompt and after each later token but the last: what would be chosen at each of the N positions after the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """One engine's choices against those of transformers."""

    name: str
    positions: int
    flips: int
    """Positions at which it chooses another token."""
    widest_gap: float | None
    """The most by which transformers prefers its own choice to the other one, in nats; None without a flip."""


def count_flips(model: LoadedModel, int8: LoadedModel | None, texts: Texts, prompt_tokens: int) -> list[Flips]:
    """Compare our engine, and transformers on another number of threads, with transformers."""
    network, threads = plain_network(model), torch.get_num_threads()
    others = 1 if threads > 1 else 2
    truth = follow_transformers(network)(texts, prompt_tokens)
    together = f"kvcomm, float32, {len(texts)} rows"
    engines: dict[str, Follow] = {"kvcomm, float32": follow_alone(model), together: follow_together(model)}
    if int8 is not None:
        engines["kvcomm, int8"] = follow_alone(int8)
    found = [_compared(name, truth, follow(texts, prompt_tokens)) for name, follow in engines.items()]
    with _threads(others):
        noise = follow_transformers(network)(texts, prompt_tokens)
    said = f"transformers, {others} {'thread' if others == 1 else 'threads'} instead of {threads}"
    return [*found, _compared(said, truth, noise)]


def random_texts(count: int, tokens: int, vocabulary: int) -> Texts:
    """Return texts of random tokens, the same ones each time."""
    generator = random.Random(1)
    return [tuple(generator.randrange(vocabulary) for _ in range(tokens)) for _ in range(count)]


def follow_together(model: LoadedModel) -> Follow:
    """Return our engine with all texts in the rows of one batch."""

    def follow(texts: Texts, prompt_tokens: int) -> list[Tensor]:
        buffer = KVBuffer(model.layout, rows=len(texts), capacity=len(texts[0]))
        steps, start = [], 0
        for stop in range(prompt_tokens, len(texts[0])):
            rows = [text[start:stop] for text in texts]
            steps.append(to_logits(model, advance_rows(model, rows, buffer, starts=[start] * len(texts))))
            start = stop
        return list(torch.stack(steps, dim=1))

    return follow


def follow_alone(model: LoadedModel) -> Follow:
    """Return our engine with one text after the other."""
    together = follow_together(model)
    return lambda texts, prompt_tokens: [together([text], prompt_tokens)[0] for text in texts]


def follow_transformers(network: Any) -> Follow:
    """Return transformers' own layers with one text after the other."""

    @torch.inference_mode()
    def follow_one(text: TokenIds, prompt_tokens: int) -> Tensor:
        steps, start, cache = [], 0, None
        for stop in range(prompt_tokens, len(text)):
            output = network(
                input_ids=torch.tensor([text[start:stop]]), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            steps.append(output.logits[0, -1].float())
            start, cache = stop, output.past_key_values
        return torch.stack(steps)

    return lambda texts, prompt_tokens: [follow_one(text, prompt_tokens) for text in texts]


def _compared(name: str, truth: Sequence[Tensor], logits: Sequence[Tensor]) -> Flips:
    positions, gaps = 0, []
    for true_NV, ours_NV in zip(truth, logits, strict=True):
        right_N, chosen_N = true_NV.argmax(dim=-1, keepdim=True), ours_NV.argmax(dim=-1, keepdim=True)
        # Tokens of equal logits are one choice: which of them argmax names means nothing.
        gap_N = true_NV.gather(1, right_N) - true_NV.gather(1, chosen_N)
        gaps += gap_N[gap_N > 0].tolist()
        positions += len(right_N)
    return Flips(name=name, positions=positions, flips=len(gaps), widest_gap=max(gaps, default=None))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
