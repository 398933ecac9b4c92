"""Verify a loaded model before anything is measured with it, and identify it.

transformers fills weights that a file lacks with random numbers and only logs it. Here that is an error.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch

from kvcomm_core.config import shown
from kvcomm_core.models.model_config import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Digests of a model's weights, tokenizer and template; None where it has none, or the value is unknown."""

    commit: str | None = None
    """Commit of the Hub's repository."""
    weights_digest: str | None = None
    """SHA-256 of the GGUF file or the single safetensors file; for several files see ``model_files.digest_of``."""
    tokenizer_digest: str | None = None
    """SHA-256 of the tokenizer in the form of a tokenizer.json, as the ``tokenizers`` package writes it."""
    template_digest: str | None = None
    """SHA-256 of the chat template in UTF-8; for several templates, of their JSON object."""
    quantisation: str | None = None
    """The quantisation of the weights, such as ``bitsandbytes, 4 bits``; None if they are not."""
    config_digest: str | None = None
    """SHA-256 of the configuration that was loaded: folders with the same weights may rotate keys or end answers
    otherwise."""


def identity_of(
    weights_digest: str, tokenizer: Any, commit: str | None, quantisation: str | None, config: Any
) -> ModelIdentity:
    """Return the identity of a model with that tokenizer and that configuration of transformers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = json.dumps(template, sort_keys=True)
    return ModelIdentity(
        commit=commit,
        weights_digest=weights_digest,
        tokenizer_digest=None if backend is None else _sha256(backend.to_str()),
        template_digest=None if template is None else _sha256(template),
        quantisation=quantisation,
        config_digest=_sha256(json.dumps(_facts(config), sort_keys=True, default=str)),
    )


def _facts(config: Any) -> dict[str, Any]:
    """Return what a configuration says of the model, and not where it lies or who wrote it."""
    facts: dict[str, Any] = config.to_dict()
    return {key: value for key, value in facts.items() if key not in ("_name_or_path", "transformers_version")}


def prove_weights(name: str, network: Any, loading: dict[str, Any]) -> None:
    """Raise ``ModelError`` unless every weight came from the files, in its shape and finite, and none was left over.

    ``loading`` is what ``from_pretrained`` returns with ``output_loading_info``. It omits keys that older releases
    wrote and nothing reads (``rotary_emb.inv_freq``), and output layers that are tied to the embedding.
    """
    for key, shape, allowed in sorted(loading["mismatched_keys"]):
        raise ModelError(f"model is {shown(name)}; tensor {key} has the shape {list(shape)}; allowed: {list(allowed)}")
    for kind, what in (("missing_keys", "is missing"), ("unexpected_keys", "is not part of the model")):
        if keys := sorted(loading[kind]):
            more = f", and {len(keys) - 1} more" if len(keys) > 1 else ""
            allowed = "exactly the tensors of its configuration"
            raise ModelError(f"model is {shown(name)}; tensor {shown(keys[0])} {what}{more}; allowed: {allowed}")
    if errors := loading.get("error_msgs"):
        raise ModelError(f"model is {shown(name)}; {' '.join(str(errors[0]).split())[:300]}")
    for key, weights in network.named_parameters():
        if weights.is_meta:  # accelerate has offloaded it to disk, from where we serve nothing
            raise ModelError(f"model is {shown(name)}; tensor {key} does not fit the memory of the devices")
        # Packages of quantised weights have tensors of their own, which know few functions.
        plain = weights if type(weights.data) is torch.Tensor else weights.dequantize()
        least, most = torch.aminmax(plain)  # NaN propagates to both
        if not (torch.isfinite(least) and torch.isfinite(most)):
            raise ModelError(
                f"model is {shown(name)}; tensor {key} holds values that are not finite as {weights.dtype}; allowed: "
                f"finite ones"
            )


def prove_vocabulary(name: str, network: Any, tokenizer: Any) -> None:
    """Raise ``ModelError`` unless every id of the tokenizer has a row in the embedding."""
    rows = network.get_input_embeddings().weight.shape[0]
    if rows != network.config.vocab_size:
        raise ModelError(f"model is {shown(name)}; vocab_size is {network.config.vocab_size}; allowed: {rows}")
    ids = tokenizer.get_vocab()
    if not ids:
        raise ModelError(f"model is {shown(name)}; its tokenizer has no vocabulary")
    token = max(ids, key=lambda token: ids[token])
    if ids[token] >= rows:
        raise ModelError(
            f"model is {shown(name)}; token {shown(token)} has the id {ids[token]}; allowed: 0 to {rows - 1}, the rows "
            f"of the embedding"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
