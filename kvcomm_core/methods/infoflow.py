"""``infoflow``: reuse base KV as ``naive`` does, but recompute the last text and the tokens to which it attends most
(Teng et al., ICML 2026, arXiv 2603.05353).

A token matters if the answer reads it. So the last text, which asks for the answer, first runs over the reused KV, keys
rotated to their positions in the prompt. The share ``ratio`` of the tokens, those to which it attends most, is
recomputed, and the last text runs again. Attention is that of the last two layers: weights averaged over heads, then
their L2 norm over the asking tokens.

It costs the last text twice and ``ratio`` of the tokens before it through all layers, from the first request on. It
fails where tokens matter through others, to which the last text attends only once they are right.

Differences from the authors' code (tx467/InfoFlow-KV):

- *Query.* Theirs is the user's question, which comes last. In our prompts the text after the last hole does; it holds
  the task, and the question stands before it.
- *Leading text.* Its KV is exact and is not recomputed; the ratio counts it in, as theirs does.
- *Layer 0.* They run all tokens through it. Its KV depends on no other token, so ours is the same without.
- *Order.* They can move important chunks next to the query. A conversation has its order.
"""

from kvcomm_core.methods.baseline_config import InfoFlowConfig
from kvcomm_core.methods.selective_recompute import SelectiveRecompute
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.selection.recompute_choice import RecomputeChoice
from kvcomm_core.template import TokenIds


def build(model: LoadedModel, header_ids: TokenIds, config: InfoFlowConfig) -> SelectiveRecompute:
    """Return the method."""
    return SelectiveRecompute(model, header_ids, RecomputeChoice(tail=True, asked=config.ratio))
