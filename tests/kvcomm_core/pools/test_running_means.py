import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_kv import make_kv

from kvcomm_core.kv import KV
from kvcomm_core.pools.running_means import MeanKV


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(1, 3), st.integers(0, 9))
def test_the_running_mean_equals_the_mean_over_all_samples(lengths: list[int], least: int, tokens: int) -> None:
    """Token by token over the samples that have it; where fewer than ``least`` do, over all tokens of all samples.

    Would catch a running update that weighs samples wrongly, and a sample shorter than the ones before it.
    """
    samples = [make_kv(length, seed) for seed, length in enumerate(lengths)]
    mean = MeanKV.of(samples[0], least)
    for sample in samples[1:]:
        mean = mean.updated(sample, least)
    for part in ("keys", "values"):
        for group in range(2):
            tensors = [getattr(sample, part)[group] for sample in samples]
            everything = torch.cat(tensors, dim=2)
            got = mean.read(part, group, slice(0, 1), tokens)  # type: ignore[arg-type]
            for token in range(tokens):
                reaching = [x[:1, :, token] for x in tensors if x.shape[2] > token]
                if len(reaching) >= least:
                    expected = torch.stack(reaching).mean(dim=0)
                elif everything.shape[2]:
                    expected = everything[:1].mean(dim=2)
                else:
                    expected = torch.zeros(1, 1, 4)
                torch.testing.assert_close(got[:, :, token], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_means_of_16_bit_samples_do_not_drift_over_1500_samples(dtype: torch.dtype) -> None:
    """Against float64, over all elements and for the mean over all tokens. Would catch bf16 means: a mean kept in the
    model's dtype stops moving after a few hundred samples, and a share 1 / n rounded to it is off by 0.4 %."""
    generator = torch.Generator().manual_seed(0)
    samples = 1500
    x_NLHTD = (1.0 + torch.randn(samples, 6, 1, 3, 4, generator=generator)).to(dtype)
    lengths = [3 if number % 3 else 2 for number in range(samples)]
    mean: MeanKV | None = None
    for x_LHTD, length in zip(x_NLHTD, lengths, strict=True):
        sample = KV((x_LHTD[:, :, :length],), (-x_LHTD[:, :, :length],))
        mean = MeanKV.of(sample, 1) if mean is None else mean.updated(sample, 1)
    assert mean is not None
    whole = x_NLHTD.double()
    long = torch.tensor([length == 3 for length in lengths])
    expected = torch.cat([whole[:, :, :, :2].mean(dim=0), whole[long][:, :, :, 2:].mean(dim=0)], dim=2)
    overall = torch.cat([whole[number, :, :, :length] for number, length in enumerate(lengths)], dim=2).mean(dim=2)
    for part, sign in (("keys", 1), ("values", -1)):
        read = mean.read(part, 0, slice(0, 6), 4)  # type: ignore[arg-type]
        assert read.dtype == torch.float32
        torch.testing.assert_close(sign * read[:, :, :3].double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(sign * read[:, :, 3].double(), overall, rtol=1e-5, atol=1e-6)


def test_a_mean_of_a_16_bit_model_counts_its_float32_bytes() -> None:
    """Would catch bytes of the model's dtype, by which a pool would hold twice its budget."""
    mean = MeanKV.of(make_kv(5, 0, torch.bfloat16), 1)
    of_all_tokens = make_kv(1, 0, torch.float32).nbytes
    assert mean.nbytes == make_kv(5, 0, torch.float32).nbytes + of_all_tokens + 5 * 8
