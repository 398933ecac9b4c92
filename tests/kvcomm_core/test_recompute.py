"""Recomputing some tokens of a prompt, against dense prefill, on models of six layers."""

import pytest
import torch
from tiny_models import MODEL_TYPES, tiny_model

from kvcomm_core.decode import advance
from kvcomm_core.kv import KVBuffer, Part
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import (
    NOTHING,
    Pending,
    Recomputed,
    Selection,
    positions_outside,
    recompute,
    recompute_and_advance,
)
from kvcomm_core.template import Span

IDS = tuple(range(1, 21))
EVERY_T = torch.arange(len(IDS))


def dense(model: LoadedModel) -> KVBuffer:
    buffer = KVBuffer(model.layout, rows=1, capacity=len(IDS))
    advance(model, [IDS], buffer)
    return buffer


def noise(model: LoadedModel) -> KVBuffer:
    buffer = KVBuffer(model.layout, rows=1, capacity=len(IDS))
    generator = torch.Generator().manual_seed(0)
    for keys, values in buffer.layers:
        keys.copy_(torch.randn(keys.shape, generator=generator))
        values.copy_(torch.randn(values.shape, generator=generator))
    return buffer


def assert_same(
    row: KVBuffer, expected: KVBuffer, positions_T: torch.Tensor = EVERY_T, layers: slice = slice(6)
) -> None:
    for one, other in zip(row.layers[layers], expected.layers[layers], strict=True):
        for tensor, reference in zip(one, other, strict=True):
            torch.testing.assert_close(tensor[:, :, positions_T], reference[:, :, positions_T], rtol=0, atol=1e-4)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_recomputing_every_token_equals_dense_prefill(model_type: str) -> None:
    """Whatever stood there before. Would catch attention to old keys, a wrong mask or wrong positions, on every
    architecture."""
    model = tiny_model(model_type, layers=6)
    row = noise(model)
    done = recompute(model, IDS, row, EVERY_T)
    assert (done.positions_T.tolist(), done.computed_tokens) == (EVERY_T.tolist(), len(IDS))
    assert_same(row, dense(model))


def test_recomputing_some_tokens_repairs_them_and_leaves_the_others(llama: LoadedModel) -> None:
    """Tokens 8 to 11 and 15 are damaged in an otherwise true cache. Would catch queries that see only the tokens
    recomputed with them, and KV scattered to the wrong place."""
    row, damaged_T = dense(llama), torch.tensor([8, 9, 10, 11, 15])
    for keys, values in row.layers:
        keys[:, :, damaged_T] += 1.0
        values[:, :, damaged_T] += 1.0
    done = recompute(llama, IDS, row, damaged_T)
    assert (done.positions_T.tolist(), done.computed_tokens) == ([8, 9, 10, 11, 15], 5.0)
    assert_same(row, dense(llama))


@pytest.mark.parametrize(("part", "chosen"), [("keys", [5, 11]), ("values", [7, 11])])
def test_selection_compares_one_part_of_its_layer(llama: LoadedModel, part: Part, chosen: list[int]) -> None:
    """Layer 1 holds keys of token 5 that are far off, values of token 7 that are farther off, and a token 11 that is a
    little off in both. Would catch a selection by the other part or by both, by another layer, or by what was
    overwritten before it was measured."""
    row = dense(llama)
    row.layers[1][0][:, :, 5] += 3.0
    row.layers[1][1][:, :, 7] += 4.0
    for layer in (0, 2):
        row.layers[layer][0][:, :, 3] += 9.0
        row.layers[layer][1][:, :, 3] += 9.0
    for tensor in row.layers[1]:
        tensor[:, :, 11] += 1.0
    done = recompute(llama, IDS, row, EVERY_T, Selection(1, part, count=2))
    assert done.positions_T.tolist() == chosen


@pytest.mark.parametrize("layer", [0, 1, 4, 5])
def test_only_the_chosen_tokens_run_behind_the_layer_of_selection(llama: LoadedModel, layer: int) -> None:
    """Up to it all KV is that of dense prefill; behind it, the chosen tokens attend to the others' old KV. Would catch
    narrowing a layer early or late, chosen tokens that stop there, and counts that forget the first layers."""
    row, chosen_T = noise(llama), torch.tensor([4, 13, 18])
    before = noise(llama)
    for tensor in (*row.layers[layer], *before.layers[layer]):
        tensor[:, :, chosen_T] += 100.0
    done = recompute(llama, IDS, row, EVERY_T, Selection(layer, "values", count=3))
    assert done.positions_T.tolist() == chosen_T.tolist()
    assert done.computed_tokens == pytest.approx((20 * (layer + 1) + 3 * (5 - layer)) / 6)
    assert_same(row, dense(llama), layers=slice(layer + 1))
    others_T = EVERY_T[~torch.isin(EVERY_T, chosen_T)]
    assert_same(row, before, others_T, slice(layer + 1, 6))
    # The same in two passes: first the whole prompt up to that layer, then the chosen tokens over what is left.
    expected = noise(llama)
    for now, true in zip(expected.layers[: layer + 1], dense(llama).layers, strict=False):
        now[0].copy_(true[0])
        now[1].copy_(true[1])
    recompute(llama, IDS, expected, chosen_T)
    assert_same(row, expected)


SOME_T = torch.tensor([3, 8, 9, 14])
PENDING = {
    "some tokens": Pending(SOME_T),
    "no tokens": Pending(SOME_T[:0]),
    "a selection": Pending(EVERY_T[2:16], Selection(1, "values", count=5, always_T=SOME_T)),
    "a selection by keys, in the first layers": Pending(EVERY_T[2:16], Selection(2, "keys", count=4, until=4)),
    "a selection of all": Pending(SOME_T, Selection(1, "values", count=4)),
}


@pytest.mark.parametrize("rest", [1, 4])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("name", PENDING)
def test_one_pass_does_what_two_do(name: str, model_type: str, rest: int) -> None:
    """Recomputing first and running the rest of the prompt after it gives the same KV, counts and hidden state. Would
    catch a selection that drops the rest or lets it take another token's place, a rest that ends with ``until``, and
    hidden states without the last norm."""
    model, pending, supplied = tiny_model(model_type, layers=6), PENDING[name], len(IDS) - rest
    row, expected = noise(model), noise(model)
    one_BE, done = recompute_and_advance(model, IDS, row, supplied, pending)
    alone = recompute(model, IDS[:supplied], expected, pending.positions_T, pending.selection)
    two_BE, nothing = recompute_and_advance(model, IDS, expected, supplied, None)
    assert (done.positions_T.tolist(), done.computed_tokens) == (alone.positions_T.tolist(), alone.computed_tokens)
    assert nothing is NOTHING
    assert_same(row, expected)
    torch.testing.assert_close(one_BE, two_BE, rtol=0, atol=1e-4)
    torch.testing.assert_close(advance(model, [IDS[supplied:]], row_of(expected, supplied)), two_BE)


def row_of(buffer: KVBuffer, length: int) -> KVBuffer:
    row = buffer.row(0)
    row.length = length
    return row


def test_one_pass_without_a_rest(llama: LoadedModel) -> None:
    """``Rows`` runs the last token later. Would catch a state asked for where no token ran, and what ran before
    forgotten."""
    row, before = dense(llama), Recomputed(torch.tensor([8, 12]), 6.5)
    _, done = recompute_and_advance(llama, IDS, row, len(IDS), Pending(SOME_T, before=before))
    assert (done.positions_T.tolist(), done.computed_tokens) == ([3, 8, 9, 12, 14], 10.5)
    _, done = recompute_and_advance(llama, IDS, row, len(IDS), Pending(SOME_T[:0], before=before))
    assert (done.positions_T.tolist(), done.computed_tokens) == ([8, 12], 6.5)
    assert_same(row, dense(llama))


def test_a_row_may_hold_more_than_the_prompt(llama: LoadedModel) -> None:
    """Memory of an earlier turn follows the prompt. Would catch attention to it."""
    longer = KVBuffer(llama.layout, rows=1, capacity=len(IDS) + 7)
    for tensor in (tensor for layer in longer.layers for tensor in layer):
        tensor[:, :, : len(IDS)] = 0.0
        tensor[:, :, len(IDS) :] = float("nan")
    recompute(llama, IDS, longer, EVERY_T)
    assert_same(longer, dense(llama))


def test_nothing_to_recompute(llama: LoadedModel) -> None:
    """Would catch a method that has to ask first, and KV that changes all the same."""
    row = dense(llama)
    done = recompute(llama, IDS, row, positions_outside([Span(0, len(IDS))], len(IDS)))
    assert (done.positions_T.tolist(), done.computed_tokens) == ([], 0.0)
    assert_same(row, dense(llama))


@pytest.mark.parametrize(
    ("spans", "outside"), [([], [0, 1, 2, 3]), ([Span(1, 2), Span(3, 9)], [0, 2]), ([Span(0, 2), Span(1, 1)], [2, 3])]
)
def test_positions_outside_of_spans(spans: list[Span], outside: list[int]) -> None:
    """Would catch positions beyond the end, and an empty span that hides a token."""
    assert positions_outside(spans, 4).tolist() == outside
