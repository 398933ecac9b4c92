"""Checks of fidelity: the turns of a batch that were drawn, compared with dense."""

from collections.abc import Sequence

from kvcomm_core.fidelity import TurnFidelity, measure_fidelity
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.references.reference import Reference, compare_with_reference
from kvcomm_core.turn import Turn


def checks_of(
    model: LoadedModel, turns: Sequence[Turn], max_new_tokens: int, references: Sequence[Reference] | None = None
) -> list[TurnFidelity | None]:
    """Compare the turns that were drawn, and so kept their KV, with dense; None for the others and for those that are
    dense themselves, or fall back to an exact prefix.

    Dense is the reference of each turn if there are some. Otherwise it is taken now, with ``max_new_tokens``, which is
    that of the turns.
    """
    is_drawn = [turn.prompt_kv is not None and not turn.plan.falls_back for turn in turns]
    if references is not None:
        pairs = zip(turns, references, is_drawn, strict=True)
        return [compare_with_reference(model, turn, reference) if is_one else None for turn, reference, is_one in pairs]
    drawn = [turn for turn, is_one in zip(turns, is_drawn, strict=True) if is_one]
    measured = iter(measure_fidelity(model, drawn, max_new_tokens=max_new_tokens))
    return [next(measured) if is_one else None for is_one in is_drawn]
