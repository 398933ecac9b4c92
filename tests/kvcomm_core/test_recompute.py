import pytest
import torch
from tiny_models import MODEL_TYPES, tiny_model

from kvcomm_core.decode import advance
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.recompute import recompute

IDS = tuple(range(1, 21))


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


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_recomputing_every_token_equals_dense_prefill(model_type: str) -> None:
    """Whatever stood there before. Would catch attention to old keys, a wrong mask or wrong positions, on every
    architecture."""
    model = tiny_model(model_type)
    row = noise(model)
    recompute(model, IDS, row, torch.arange(len(IDS)))
    for (keys, values), (true_keys, true_values) in zip(row.layers, dense(model).layers, strict=True):
        torch.testing.assert_close(keys, true_keys, rtol=0, atol=1e-5)
        torch.testing.assert_close(values, true_values, rtol=0, atol=1e-5)


def test_recomputing_some_tokens_repairs_them_and_leaves_the_others(llama: LoadedModel) -> None:
    """Tokens 8 to 11 and 15 are damaged in an otherwise true cache. Would catch queries that see only the tokens
    recomputed with them, and KV scattered to the wrong place."""
    row, true = dense(llama), dense(llama)
    damaged = torch.tensor([8, 9, 10, 11, 15])
    for keys, values in row.layers:
        keys[:, :, damaged] += 1.0
        values[:, :, damaged] += 1.0
    recompute(llama, IDS, row, damaged)
    for (keys, values), (true_keys, true_values) in zip(row.layers, true.layers, strict=True):
        torch.testing.assert_close(keys, true_keys, rtol=0, atol=1e-5)
        torch.testing.assert_close(values, true_values, rtol=0, atol=1e-5)


def test_selection_sees_the_deviation_of_its_layer_and_narrows_the_next(llama: LoadedModel) -> None:
    """Would catch measuring after the old KV is overwritten, or narrowing one layer late."""
    row, true = dense(llama), dense(llama)
    row.layers[0][0][:, :, 5] += 2.0  # one key of layer 0
    seen: list[torch.Tensor] = []

    def select(deviation_T: torch.Tensor, positions_T: torch.Tensor) -> torch.Tensor:
        seen.append(deviation_T)
        return positions_T[deviation_T > 1.0]

    before = [values.clone() for _, values in row.layers]
    before[1] += 0.0
    row.layers[1][1][:] += 1.0
    kept_T = recompute(llama, IDS, row, torch.arange(len(IDS)), select_at=0, select=select)
    assert kept_T.tolist() == [5]
    assert seen[0][5] == pytest.approx(2 * 16 * 4.0, rel=1e-3)  # heads, channels, 2 squared
    assert float(seen[0].sum() - seen[0][5]) == pytest.approx(0, abs=1e-6)
    changed = (row.layers[1][1] - before[1]).abs().amax(dim=(0, 1, 3))
    torch.testing.assert_close(row.layers[1][1][:, :, 5], true.layers[1][1][:, :, 5], rtol=0, atol=1e-5)
    assert (changed > 0.5).sum() == len(IDS) - 1
