"""Checks of fidelity: the turns of a batch that were drawn, compared with dense."""

from collections.abc import Sequence

from kvcomm_core.engine import Turn
from kvcomm_core.fidelity import TurnFidelity, measure_fidelity
from kvcomm_core.models.loading import LoadedModel


def checks_of(model: LoadedModel, turns: Sequence[Turn], max_new_tokens: int) -> list[TurnFidelity | None]:
    """Compare the turns that were drawn, and so kept their KV, with dense; None for the others and for those that are
    dense themselves. ``max_new_tokens`` is that of the turns."""
    is_drawn = [turn.prompt_kv is not None and turn.mode != "dense" for turn in turns]
    drawn = [turn for turn, is_one in zip(turns, is_drawn, strict=True) if is_one]
    measured = iter(measure_fidelity(model, drawn, max_new_tokens=max_new_tokens))
    return [next(measured) if is_one else None for is_one in is_drawn]
