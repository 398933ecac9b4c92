import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_kv import make_kv

from kvcomm_core.running_means import MeanKV


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
