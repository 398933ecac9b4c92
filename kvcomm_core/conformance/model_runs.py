"""Count what runs through a model, whoever runs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds


@dataclass(slots=True)
class Pass:
    """One pass of a row of tokens through some or all layers of a model."""

    token_ids: TokenIds
    """The tokens that went in; empty if their embeddings did."""
    tokens: list[int] = field(default_factory=list)
    """Tokens that ran through each layer, in order."""

    @property
    def is_whole(self) -> bool:
        """Whether all of its tokens ran through every layer that any did."""
        return set(self.tokens) == {len(self.token_ids)}


@contextmanager
def watch(model: LoadedModel) -> Iterator[list[Pass]]:
    """Collect the passes through the model within the block."""
    passes: list[Pass] = []
    embedded: list[TokenIds] = []
    layers = model.network.model.layers

    def after_embedding(_module: Any, args: tuple[Any, ...], _output: Any) -> None:
        embedded.append(tuple(args[0].flatten().tolist()))

    def before_layer(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden_BTE = args[0] if args else kwargs["hidden_states"]
        if index == 0:
            passes.append(Pass(embedded.pop() if embedded else ()))
        passes[-1].tokens.append(hidden_BTE.shape[0] * hidden_BTE.shape[1])

    def hook(index: int) -> Any:
        return lambda _module, args, kwargs: before_layer(index, args, kwargs)

    handles = [model.network.get_input_embeddings().register_forward_hook(after_embedding)]
    handles += [layer.register_forward_pre_hook(hook(i), with_kwargs=True) for i, layer in enumerate(layers)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def whole_model_tokens(passes: list[Pass], layers: int) -> float:
    """Return how many tokens ran through a model of so many layers. One that ran through k of L layers counts k/L."""
    return sum(sum(one.tokens) for one in passes) / layers
