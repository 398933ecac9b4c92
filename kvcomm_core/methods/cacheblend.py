"""``cacheblend``: reuse base KV as ``naive`` does, but recompute the last text and the tokens whose KV deviates most
(Yao et al., EuroSys 2025, arXiv 2405.16444). This is the baseline of the paper's table 1.

The *suffix*, which is the text after the last hole, is never reused; the engine runs it. Which other tokens deviate
shows early. They run through layers 0 and 1, so the KV of these layers is that of dense prefill. The ``ratio`` of
tokens whose values (``select: keys``: keys) at layer 1 differ most from the reused ones continue through the remaining
layers and attend to the reused KV of the others. The method knows nothing of the dense cache beyond those two layers.

It costs the suffix, two layers of what lies between the leading text and the suffix, and ``ratio`` of the other layers,
from the first request on. It fails where the tokens that matter in deeper layers do not stand out at layer 1.

The authors' code (YaoJiayi/CacheBlend, ``vllm_blend``) selects by values; LMCache, their later project, by keys. Both
count ``ratio`` as we do: of the tokens without the suffix, the leading text included, rounded down. Differences:

- *Mask.* Theirs treats the chosen tokens as the last of the prompt, so that most see some tokens that come after them.
  Ours shows each token what stands before it.
- *Leading text.* Its KV is exact and does not deviate. They run it through both layers all the same; we do not.
- *Layer 1.* Of the tokens that are not chosen, they compute only the projections there; we run them through the whole
  layer. The results are equal, ours cost a few percent more. Their new KV at layer 1 is kept, as in the authors' code;
  LMCache keeps the old.
- *Nothing to choose*, as with ``ratio`` 0. We run the suffix alone; they still run two layers of everything.
- *Suffix.* Three of the authors' four example scripts pass 1 as its length (they take the length of a list around it),
  the fourth its true length. We recompute all of it, as the fourth script and LMCache do.
"""

from kvcomm_core.methods.baseline_config import CacheBlendConfig
from kvcomm_core.methods.selective_recompute import SelectiveRecompute
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.selection.recompute_choice import RecomputeChoice
from kvcomm_core.template import TokenIds


class CacheBlend(SelectiveRecompute):
    """Recomputes the last text, and the tokens that deviate most."""

    def __init__(self, model: LoadedModel, header_ids: TokenIds, config: CacheBlendConfig) -> None:
        super().__init__(model, header_ids, RecomputeChoice(tail=True, share=config.ratio, select=config.select))
