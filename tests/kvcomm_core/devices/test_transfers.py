"""Numbers of the host that go to a device."""

import pytest
import torch

from kvcomm_core.devices.transfers import send, to_device


def test_dtypes_and_shapes() -> None:
    """Catches token ids that become float32, and weights that become float64."""
    cpu = torch.device("cpu")
    assert to_device([3, 4], cpu).dtype == torch.int64
    assert to_device([0.5, 1.5], cpu).dtype == torch.float32
    assert torch.equal(to_device([[1, 2], [3, 4]], cpu), torch.tensor([[1, 2], [3, 4]]))
    mask = torch.tensor([True, False])
    assert torch.equal(send(mask, cpu), mask)


@pytest.mark.gpu
def test_a_gpu_gets_the_same_numbers() -> None:
    """Catches pinned memory that is written again before its copy has run."""
    cuda = torch.device("cuda", 0)
    torch.cuda._sleep(100_000_000)  # so that all copies wait in the queue
    sent = [to_device([number] * 1000, cuda) for number in range(50)]
    assert [int(tensor.sum()) for tensor in sent] == [1000 * number for number in range(50)]
