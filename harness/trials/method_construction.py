"""Construction of the method from a trial's method name and parameters."""

from harness.spec import TrialSpec
from kvcomm_core.method import Method
from kvcomm_core.methods.cacheblend import CacheBlend
from kvcomm_core.methods.dense import Dense
from kvcomm_core.methods.kvcomm import KVComm
from kvcomm_core.methods.naive import Naive
from kvcomm_core.methods.prefix import Prefix
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds


def build_method(spec: TrialSpec, model: LoadedModel, header_ids: TokenIds) -> Method:
    """Build the method of a trial, without state yet. ``header_ids``: see ``kvcomm_core.segments``."""
    if spec.kvcomm is not None:
        return KVComm(model, header_ids, spec.kvcomm)
    if spec.cacheblend is not None:
        return CacheBlend(model, header_ids, spec.cacheblend)
    if spec.method == "naive":
        return Naive(model, header_ids)
    return Prefix(model) if spec.method == "prefix" else Dense()
