"""Where the host waits for a device on the way from "inputs known" to the first token.

Without a GPU, tensors are followed instead: those of the model's weights and of KV count as the device's, and so does
all that is computed from them. A call that brings numbers of such a tensor to the host is a wait, and so is a tensor
made on a device from numbers, which PyTorch copies from ordinary memory.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from three_agents import HEADER, ask, engine_of, tokens
from tiny_models import tiny_model
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kvcomm_core.config import KVCommConfig
from kvcomm_core.method import Method
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.naive import Naive
from kvcomm_core.stopwatch import Stopwatch

TO_HOST = {"item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__"}


class Following(TorchDispatchMode):
    """Knows the tensors that would be on the device."""

    def __init__(self, seeds: Iterable[Tensor]) -> None:
        super().__init__()
        self._storages: dict[int, Any] = {}
        for tensor in seeds:
            self.follow(tensor)

    def follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = storage  # held, so that no other gets its place

    def knows(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.untyped_storage()._cdata in self._storages

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if any(map(self.knows, tree_leaves((args, kwargs)))):
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self.follow(leaf)
        return out


class Waits(TorchFunctionMode):
    """The places of our code where the host waits for a followed tensor."""

    def __init__(self, following: Following) -> None:
        super().__init__()
        self._following = following
        self.places: list[str] = []
        self.is_on = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if self.is_on and name in TO_HOST and args and self._following.knows(args[0]):
            self.places.append(f"{place()} {name}")
        if self.is_on and function is torch.tensor and (kwargs or {}).get("device") is not None:
            self.places.append(f"{place()} tensor")
        return function(*args, **(kwargs or {}))


def place() -> str:
    """The innermost of the engine's files on the stack."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "kvcomm_core" in path.parts and "tests" not in path.parts:
            return path.name
        frame = frame.f_back
    return "?"


def waits_of(method: str, config: KVCommConfig, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The waits of each turn of a request, the third of its kind, up to its first token."""
    model = tiny_model()
    following = Following([*model.network.parameters(), *model.network.buffers()])
    waits = Waits(following)

    real_seconds, real_init = Stopwatch.seconds, Stopwatch.__init__
    turns: list[set[str]] = []

    def begins(self: Stopwatch, devices: Sequence[torch.device]) -> None:
        real_init(self, devices)
        waits.is_on = True

    def read(self: Stopwatch) -> float:
        if waits.is_on:
            turns.append(set(waits.places))
        waits.places.clear()
        waits.is_on = False
        return real_seconds(self)

    methods: dict[str, Callable[[], Method]] = {
        "dense": Dense,
        "naive": lambda: Naive(model, HEADER),
        "kvcomm": lambda: KVComm(model, HEADER, config),
    }
    with following, waits:
        engine = engine_of(replace(model, eos_ids=frozenset()), methods[method]())
        for seed in range(3):
            ask(engine, tokens(6, seed))
        monkeypatch.setattr(Stopwatch, "__init__", begins)
        monkeypatch.setattr(Stopwatch, "seconds", read)
        taken = ask(engine, tokens(6, 99))
    assert [turn.mode for turn in taken] == [{"dense": "dense"}.get(method, "reuse")] * 3
    return turns[:3]


FIRST_TOKEN = "engine.py tolist"
"""The id of the first token, which ends the time."""


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("dense", KVCommConfig()),
        ("naive", KVCommConfig()),
        ("kvcomm", KVCommConfig(estimator="mean", criterion="length")),
        ("kvcomm", KVCommConfig(estimator="mean", criterion="always")),
    ],
)
def test_the_first_token_is_all_that_is_waited_for(
    method: str, config: KVCommConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches ``.item()``, ``.tolist()``, ``bool()`` or a mask as an index of a tensor that a GPU holds, in a turn that
    has nothing to decide by numbers."""
    assert waits_of(method, config, monkeypatch) == [{FIRST_TOKEN}] * 3


def test_comparing_samples_waits_for_their_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a wait beside that for the verdict: whether a sample is reused decides what runs next, so the host needs
    its distances, all of a sample in one transfer (on a CPU they come number by number)."""
    config = KVCommConfig(estimator="l2_norm", gamma=1.0)
    for places in waits_of("kvcomm", config, monkeypatch):
        assert {place.split()[0] for place in places} <= {"engine.py", "base_values.py", "criteria.py", "estimators.py"}
