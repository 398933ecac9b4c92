"""Running means of offsets, which the ``mean`` estimator keeps in place of every anchor's offsets.

Their memory does not grow with the number of samples, only with the length of the longest one. They are float32 even if
the model is not. In bfloat16, a mean over hundreds of samples would stop moving, because what one sample adds is less
than half of a mean's last digit. With a 16-bit model a mean thus takes twice the bytes of a sample's offset, to store
and to read.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kvcomm_core.kv import KV, Part


@dataclass(frozen=True, slots=True)
class MeanKV:
    """The running mean of offsets of one segment over samples of different lengths. Immutable.

    Token t's mean is over the samples that have a token t. From ``reach`` on, where fewer than ``min_samples`` samples
    have the token, the mean over all tokens of all samples replaces it.
    """

    keys: tuple[Tensor, ...]
    """Per layer group ``[L, H, T, D]`` float32, T the length of the longest sample."""
    values: tuple[Tensor, ...]
    counts_T: Tensor
    """Samples that reached token t, on the CPU; never increasing with t."""
    reach: int
    overall_keys: tuple[Tensor, ...]
    """Mean over all tokens of all samples, ``[L, H, 1, D]``."""
    overall_values: tuple[Tensor, ...]

    @classmethod
    def of(cls, kv: KV, min_samples: int) -> "MeanKV":
        """Return the mean of one sample."""
        empty = KV(*(tuple(x[:, :, :0].float() for x in part) for part in (kv.keys, kv.values)))
        start = cls(empty.keys, empty.values, torch.zeros(0, dtype=torch.long), 0, empty.keys, empty.values)
        return start.updated(kv, min_samples)

    def updated(self, kv: KV, min_samples: int) -> "MeanKV":
        """Return the mean with one more sample in it."""
        tokens, sample = max(len(self.counts_T), len(kv)), len(kv)
        counts_T = torch.nn.functional.pad(self.counts_T, (0, tokens - len(self.counts_T)))
        counts_T[:sample] += 1

        def update(means: tuple[Tensor, ...], samples: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            result = []
            for mean_LHTD, x_LHTD in zip(means, samples, strict=True):
                new_LHTD = torch.nn.functional.pad(mean_LHTD, (0, 0, 0, tokens - mean_LHTD.shape[2]))
                share_T1 = (1.0 / counts_T[:sample, None]).to(x_LHTD.device)
                # The float32 mean widens the sample before the difference is taken.
                new_LHTD[:, :, :sample] += (x_LHTD - new_LHTD[:, :, :sample]) * share_T1
                result.append(new_LHTD)
            return tuple(result)

        def overall(means: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            share_T1 = (counts_T / counts_T.sum().clamp_min(1))[:, None]
            return tuple((m * share_T1.to(m.device)).sum(dim=2, keepdim=True) for m in means)

        keys, values = update(self.keys, kv.keys), update(self.values, kv.values)
        reach = int((counts_T >= min_samples).sum())
        return MeanKV(keys, values, counts_T, reach, overall(keys), overall(values))

    @property
    def samples(self) -> int:
        """Number of samples that have a token."""
        return int(self.counts_T[0]) if len(self.counts_T) else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        tensors = (*self.keys, *self.values, *self.overall_keys, *self.overall_values, self.counts_T)
        return sum(tensor.nbytes for tensor in tensors)

    def fetch(self) -> "MeanKV":
        """Return the mean itself, which always is with its layers."""
        return self

    def read(self, part: Part, group: int, layers: slice, tokens: int) -> Tensor:
        """Return some layers of a group and ``tokens`` tokens, even if that is more than any sample had."""
        means, overall = (self.keys, self.overall_keys) if part == "keys" else (self.values, self.overall_values)
        near = means[group][layers, :, : min(tokens, self.reach)]
        if tokens <= self.reach:
            return near
        far = overall[group][layers].expand(-1, -1, tokens - self.reach, -1)
        return torch.cat([near, far], dim=2)

    def scale(self, part: Part, group: int, layers: slice) -> None:
        """Return that the mean's numbers are as they are."""


@dataclass(frozen=True, slots=True)
class MeanOffset:
    """The running mean of one slot's offsets."""

    placeholder: MeanKV
    text: MeanKV

    @property
    def samples(self) -> int:
        """Number of samples measured."""
        return max(self.placeholder.samples, self.text.samples)

    @property
    def nbytes(self) -> int:
        return self.placeholder.nbytes + self.text.nbytes
