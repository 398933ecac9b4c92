"""``epic``: reuse base KV as ``naive`` does, but recompute the last text and the first tokens of every other segment
(Hu et al., ICML 2025, arXiv 2410.15332: LegoLink-k).

Tokens at the beginning of a segment that was prefilled alone draw much attention, as the first token of a text does
(attention sinks). In the middle of a prompt they should not. EPIC recomputes them where they stand now, so that later
tokens attend to them as in a dense prefill. Which tokens these are is known beforehand: nothing is compared.

It costs the suffix and ``first`` tokens per segment through all layers, from the first request on. It fails where a
segment's later tokens depend on what stands before it, because no token but those has seen another segment.

Differences from the paper:

- *Segments.* Theirs are documents, each prefilled alone. Ours are the holes and texts of a template; the base KV of
  a text comes from its own template with filler in the holes, so its first tokens are no sinks of an empty context.
- *Leading text.* The first segment's KV is exact. They leave it alone, too.
"""

from kvcomm_core.methods.baseline_config import EpicConfig
from kvcomm_core.methods.selective_recompute import SelectiveRecompute
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.selection.recompute_choice import RecomputeChoice
from kvcomm_core.template import TokenIds


def build(model: LoadedModel, header_ids: TokenIds, config: EpicConfig) -> SelectiveRecompute:
    """Return the method."""
    return SelectiveRecompute(model, header_ids, RecomputeChoice(tail=True, first=config.first))
