"""What a reuse turn allocates on the way."""

import random
from typing import get_args

import pytest
import torch
from tiny_models import VOCABULARY, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kvcomm_core.config import Estimator, KVCommConfig
from kvcomm_core.engine import Engine
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.template import Template

ANCHORS = 8
TEMPLATE = Template((tuple(range(40)), tuple(range(60))), ("user_question",))
QUESTION_TOKENS = 100
PROMPT_TOKENS = 200


class LargestAllocation(TorchDispatchMode):
    """Sees every operator; remembers the largest storage that one of them made."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes, self.operator = 0, "none"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # A matrix that oneDNN has packed shows no storage; the model holds it before the turn.
        given = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor) and not leaf.is_mkldnn
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in given:
                size = leaf.untyped_storage().nbytes()
                if size > self.nbytes:
                    self.nbytes, self.operator = size, str(func)
        return result


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        *(KVCommConfig(gamma=1.0, estimator=name) for name in get_args(Estimator)),
        KVCommConfig(gamma=1.0, criterion="entropy_upstream"),
        KVCommConfig(gamma=1.0, storage="int8"),
        KVCommConfig(gamma=1.0, placement="host"),
    ],
    ids=[*get_args(Estimator), "entropy_upstream", "int8", "host"],
)
def test_nothing_larger_than_the_kv_of_one_prompt(config: KVCommConfig) -> None:
    """Would catch anchors that are stacked to be compared or summed, which takes as many prompts as there are
    anchors, and a prompt's KV that is put together twice."""
    model = tiny_model()
    engine = Engine(model, KVComm(model, (3, 4), config), (9, 9))
    engine.register("1", TEMPLATE)
    rng = random.Random(0)

    def ask(watch: LargestAllocation | None) -> str:
        with engine.open() as request:
            request.provide("user_question", tuple(rng.randrange(VOCABULARY) for _ in range(QUESTION_TOKENS)))
            if watch is None:
                return request.take_turn("1", max_new_tokens=2).mode
            with watch:
                return request.take_turn("1", max_new_tokens=2).mode

    engine.method.always_learn = True
    assert {ask(None) for _ in range(ANCHORS)} == {"dense"}
    engine.method.always_learn = False
    watch = LargestAllocation()
    assert ask(watch) == "reuse"
    prompt_nbytes = PROMPT_TOKENS * model.layout.bytes_per_token
    assert 0 < watch.nbytes <= prompt_nbytes, watch.operator
