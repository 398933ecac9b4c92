import pytest
import torch
from tiny_models import MODEL_TYPES, tiny_model

from kvcomm_core.decode import advance, decode_greedily, to_logits
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel

PROMPT = (5, 11, 2, 60, 33)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_chunks_give_what_one_pass_does(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a prefix, rows of different lengths run in chunks. Would catch a chunk at the position or slot of another,
    and the last state of a row taken from the padding after it."""
    model, rows = tiny_model(model_type, layers=6), [PROMPT, tuple(range(20, 33))]
    found = []
    for size in (3, 100):
        monkeypatch.setattr("kvcomm_core.decode._CHUNK", size)
        buffer = KVBuffer(model.layout, rows=2, capacity=18)
        advance(model, [PROMPT] * 2, buffer)
        found.append((advance(model, rows, buffer), buffer.length, buffer.view(0, 10, 0), buffer.view(0, 18, 1)))
    (chunks_BE, length, *views), (one_BE, same, *others) = found
    assert length == same == 18
    torch.testing.assert_close(chunks_BE, one_BE, rtol=0, atol=1e-4)
    for view, other in zip(views, others, strict=True):
        torch.testing.assert_close(view.tensors, other.tensors, rtol=0, atol=1e-4)


def decode(model: LoadedModel, max_new_tokens: int, eos_ids: tuple[int, ...] = ()) -> tuple[tuple[int, ...], str, int]:
    buffer = KVBuffer(model.layout, rows=1, capacity=len(PROMPT) + max_new_tokens)
    first_ids = to_logits(model, advance(model, [PROMPT], buffer)).argmax(dim=-1).tolist()
    (answer,) = decode_greedily(
        model,
        first_ids,
        buffer,
        positions=[len(PROMPT)],
        visible_BC=None,
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids,
    )
    return answer.token_ids, answer.stop_reason, buffer.length


def test_greedy_decoding_equals_recomputing_everything_for_each_token(llama: LoadedModel) -> None:
    """Would catch a cache that is off by one, or positions that stand still while decoding."""
    ids = list(PROMPT)
    for _ in range(8):
        with torch.inference_mode():
            ids.append(int(llama.network(torch.tensor([ids])).logits[0, -1].argmax()))
    assert decode(llama, 8) == (tuple(ids[len(PROMPT) :]), "length", len(PROMPT) + 7)


def test_decoding_stops_before_the_end_of_sequence(llama: LoadedModel) -> None:
    """Would catch keeping the end-of-sequence token in the answer, where it would enter the next agent's prompt."""
    free, _, _ = decode(llama, 8)
    stop = next(i for i, token in enumerate(free) if token not in free[:i] and i > 0)
    answer, reason, filled = decode(llama, 8, eos_ids=(free[stop],))
    assert (answer, reason) == (free[:stop], "eos")
    assert filled == len(PROMPT) + stop  # every token of the answer has its KV
    assert decode(llama, 8, eos_ids=(free[0],)) == ((), "eos", len(PROMPT))


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_answers(llama: LoadedModel, length: int) -> None:
    """Would catch one token too many or too few at the limit."""
    assert decode(llama, length)[0] == decode(llama, 8)[0][:length]
