"""Checks of the KV that a method supplies, by the first run."""

import torch
from torch import Tensor

from kvcomm_core.conformance.cases import QUESTIONS, Case, ask, distance, place_of
from kvcomm_core.conformance.comparing import require_same_bits
from kvcomm_core.conformance.finding import Finding
from kvcomm_core.decode import advance
from kvcomm_core.engine import Engine
from kvcomm_core.kv import KV, KVBuffer
from kvcomm_core.template import Prompt
from kvcomm_core.turn import Turn

_LAYER_0 = 0.1
"""Largest relative distance of layer 0's keys, or values, of one token from the true ones. A position that is wrong by
one gives about 0.5, 8-bit storage 0.01."""
_JUNK = 1000.0


def check_exact(case: Case) -> str:
    """Compare each turn that is said to be exact with one forward pass over prompt and answer. A turn is said to be
    exact if its method is, or if its plan estimates no token."""
    n_exact = 0
    for where, turn in _turns(case):
        if case.config.exact and turn.plan.estimated_tokens:
            found = f"estimated_tokens={turn.plan.estimated_tokens}"
            raise Finding(where, expected="estimated_tokens=0, since the method says that it is exact", found=found)
        if turn.plan.estimated_tokens:
            continue
        n_exact += 1
        dense_TV = _dense_logits(case, turn)
        largest = distance(turn.first_logits_V, dense_TV[0])
        if not largest <= case.tolerance:
            raise Finding(
                f"{where}, {'exact method' if case.config.exact else 'estimated_tokens=0'}, mode {turn.mode}",
                expected=f"the logits of dense prefill, within {case.tolerance} of their standard deviation",
                found=f"logits that are up to {largest:.2g} standard deviations apart",
            )
        for step, token in enumerate(turn.answer_ids):
            # Twice, as both the chosen logit and the largest one may be off.
            behind = float((dense_TV[step].max() - dense_TV[step, token]) / dense_TV[step].std())
            if behind > 2 * case.tolerance:
                best = int(dense_TV[step].argmax())
                raise Finding(
                    f"{where}, token {step + 1} of the answer", expected=f"{best}, as dense", found=f"{token}"
                )
    return f"{n_exact} of {sum(map(len, case.first_run))} turns are said to be exact"


def check_positions(case: Case) -> str:
    """Look at the KV of each prompt. All of it is finite. At layer 0, where KV depends on a token and its position
    alone, it is that of dense prefill, whatever context it was taken from."""
    for where, turn in _turns(case):
        assert turn.prompt_kv is not None  # noqa: S101 - the first run keeps it
        for name, tensors in (("keys", turn.prompt_kv.keys), ("values", turn.prompt_kv.values)):
            if not all(bool(tensor.isfinite().all()) for tensor in tensors):
                raise Finding(where, expected=f"finite {name}", found="NaN or infinity")
        if not bool(turn.first_logits_V.isfinite().all()):
            raise Finding(where, expected="finite logits", found="NaN or infinity")
        dense = _dense_kv(case, turn)
        for name, found, true in (
            ("keys", turn.prompt_kv.keys[0][0], dense.keys[0][0]),
            ("values", turn.prompt_kv.values[0][0], dense.values[0][0]),
        ):
            distance_T = _relative(found, true)
            wrong = (distance_T > _LAYER_0).nonzero().flatten().tolist()
            if wrong:
                raise Finding(
                    f"{where}, token {wrong[0]} ({_segment(turn.prompt, wrong[0])}), mode {turn.mode}",
                    expected=f"{name} of this token at this position: at layer 0 context does not count",
                    found=f"{name} at a relative distance of {distance_T[wrong[0]]:.2f}, as in {len(wrong)} of "
                    f"{len(distance_T)} tokens",
                )
    return ""


def check_memory(case: Case) -> str:
    """Run the same requests with other numbers in the memory that the prompt's KV is written to. They show where a
    method supplies tokens that it did not write, keeps a view of the engine's buffer, or learns from KV that the
    engine has not computed, as without ``needs_answer_kv``."""
    engine = case.engine(_JunkBefore)
    found = [ask(engine, asked) for asked in QUESTIONS]
    require_same_bits(found, case.first_run, "with other numbers in memory that was not written")
    return ""


def check_repeated(case: Case) -> str:
    """Run the same requests again from the beginning."""
    engine = case.engine()
    require_same_bits([ask(engine, asked) for asked in QUESTIONS], case.first_run, "in a second run")
    return ""


class _JunkBefore(Engine):
    """An engine whose buffers hold large numbers where nothing has been written."""

    def _buffer(self, prompts: "list[Prompt]", max_new_tokens: int) -> KVBuffer:  # type: ignore[override]
        buffer = super()._buffer(prompts, max_new_tokens)
        for keys_BHCD, values_BHCD in buffer.layers:
            keys_BHCD.fill_(_JUNK)
            values_BHCD.fill_(_JUNK)
        return buffer


def _turns(case: Case) -> list[tuple[str, Turn]]:
    return [
        (place_of(request, index), turn)
        for request, turns in enumerate(case.first_run)
        for index, turn in enumerate(turns)
    ]


@torch.inference_mode()
def _dense_logits(case: Case, turn: Turn) -> Tensor:
    """Return the logits of each of the answer's tokens, ``[T, V]``, by one plain forward pass of the model."""
    ids = torch.tensor([turn.prompt.token_ids + turn.answer_ids], device=case.model.device)
    logits_TV: Tensor = case.model.network(ids).logits[0]
    return logits_TV[len(turn.prompt) - 1 :].float()


@torch.inference_mode()
def _dense_kv(case: Case, turn: Turn) -> KV:
    """Return the true KV of all the prompt's tokens but the last."""
    buffer = KVBuffer(case.model.layout, 1, len(turn.prompt))
    advance(case.model, [turn.prompt.token_ids], buffer)
    return buffer.view(0, len(turn.prompt) - 1)


def _relative(found_HTD: Tensor, true_HTD: Tensor) -> Tensor:
    """Return the distance of each token's numbers from the true ones, divided by their norm, ``[T]``."""
    difference_TE, true_TE = (
        x.float().transpose(0, 1).flatten(1) for x in (found_HTD.float() - true_HTD.float(), true_HTD)
    )
    relative_T: Tensor = difference_TE.norm(dim=1) / true_TE.norm(dim=1)
    return relative_T


def _segment(prompt: Prompt, token: int) -> str:
    """Name the text or hole that a token of the prompt lies in."""
    spans = [(f"text {index}", span) for index, span in enumerate(prompt.texts)]
    spans += [(f"hole {index + 1}", span) for index, span in enumerate(prompt.holes)]
    return next(name for name, span in spans if span.start <= token < span.stop)
