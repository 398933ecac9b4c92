"""``relay``: reuse base KV, an answer's as it was decoded, and recompute the last text and, through some layers, the
tokens that deviate most (RelayCaching, Geng et al., arXiv 2603.13289).

The paper reports that the KV of the same content differs little between the agent that decoded it and one that reads
it, and that what differs lies in a limited range of layers and at few tokens. So those tokens are recomputed in those
layers alone; the last layers keep the decoder's KV.

It costs the suffix, two layers of what lies between the leading text and the suffix, and the ``ratio`` of tokens in the
other layers up to ``depth``. It fails where the last layers of the chosen tokens differ, too: they keep KV that does
not follow from the layers before.

The authors have published no code. From the paper we know the idea, not the constants. Differences, and what we chose:

- *Layers.* The range begins at the first layer, because no layer can be recomputed without its input, and nobody kept
  the hidden states in between. It ends after ``depth`` of the layers.
- *Tokens.* Those whose values deviate most at layer 1, as for ``cacheblend``.
- *Texts and questions.* Theirs is about answers. Ours also takes over the base KV of texts, questions and tools'
  results, as every method here does.
"""

from kvcomm_core.methods.baseline_config import RelayConfig
from kvcomm_core.methods.selective_recompute import SelectiveRecompute
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.selection.recompute_choice import RecomputeChoice
from kvcomm_core.template import TokenIds


def build(model: LoadedModel, header_ids: TokenIds, config: RelayConfig) -> SelectiveRecompute:
    """Return the method."""
    choice = RecomputeChoice(tail=True, share=config.ratio, depth=config.depth)
    return SelectiveRecompute(model, header_ids, choice)
