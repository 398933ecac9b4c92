"""Load a model by name, ready for the engine.

``python -m kvcomm_core.models.loading NAME`` loads a model and prints where it came from. The set-up uses it to convert
the embedded model before the first run.
"""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from kvcomm_core.config import shown
from kvcomm_core.files.strict_json import JsonError
from kvcomm_core.fused.packed_linear import pack_linears
from kvcomm_core.fused.step import DecodeStep, build_step
from kvcomm_core.kv import KVLayout, layer_groups
from kvcomm_core.models.attention import (
    Scales,
    attention_of,
    read_rope,
    read_scales,
    read_windows,
    rotates_by_layer_type,
)
from kvcomm_core.models.conversion import converted
from kvcomm_core.models.devices import describe_devices, is_out_of_memory
from kvcomm_core.models.int8_weights import DESCRIPTION, quantise_weights
from kvcomm_core.models.model_config import ModelError, check_config, check_end_tokens, naming, served_context
from kvcomm_core.models.model_files import check_small_files, digest_of, sha256_of, weight_files
from kvcomm_core.models.model_source import (
    check_model,
    config_file,
    find_model,
    no_chat_template,
    random_shape,
)
from kvcomm_core.models.proof import ModelIdentity, identity_of, prove_vocabulary, prove_weights
from kvcomm_core.models.quantisation import quantisation_of
from kvcomm_core.rope import Rope

DTypeName = Literal["auto", "float32", "bfloat16", "float16"]
WeightsName = Literal["model", "int8"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model with the facts that the engine needs about it."""

    name: str
    network: Any
    """The transformers model, in evaluation mode; ``Any`` because transformers ships no types."""
    tokenizer: Any | None
    """None for random weights, which have no text."""
    layout: KVLayout
    rope: Rope
    eos_ids: frozenset[int]
    """Token ids that end an answer."""
    context: int
    """Tokens that a prompt and its answer may take together."""
    layer_types: tuple[str, ...]
    """``full_attention`` or ``sliding_attention``, for each layer."""
    window: int | None = None
    """Tokens that layers of sliding attention see, the newest included; None if there are none."""
    scales: Scales = field(default_factory=Scales)
    """Factors outside the layers."""
    rotates_by_layer_type: bool = False
    """Whether the network's rotary embedding asks for the layer type."""
    step: DecodeStep | None = None
    """The step that runs one token per row; None where transformers' own layers do."""
    decoding: str = "transformers"
    """What runs one token per row, for records: ``fused``, or ``transformers`` and why."""
    identity: ModelIdentity = field(default_factory=ModelIdentity)
    """Identity of the weights, tokenizer and template, for records."""

    @property
    def device(self) -> torch.device:
        """The device of the first layer, where token ids go in."""
        return self.layout.groups[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and KV."""
        return self.layout.dtype

    def require_context(self, tokens: int) -> None:
        """Raise ``ValueError`` if the model does not support ``tokens`` positions."""
        if tokens > self.context:
            why = ""
            if self.context < self.network.config.max_position_embeddings:
                why = ", beyond which its rotary frequencies change"
            raise ValueError(
                f"prompt and answer take {tokens} tokens; allowed: the model's context of {self.context}{why}"
            )

    def require_chat(self, *, decodes: bool) -> None:
        """Raise ``ModelError`` if the tokenizer has no chat template or, where text is decoded, no end token.

        A model without a tokenizer passes: whatever reads text refuses it anyway.
        """
        if self.tokenizer is None:
            return
        if not self.tokenizer.chat_template:
            raise ModelError(no_chat_template(self.name))
        if decodes and not self.eos_ids:
            raise ModelError(
                f"model is {shown(self.name)}; neither generation_config.json nor config.json has an eos_token_id; "
                f"allowed: at least one, as answers would never end"
            )

    def describe_device(self) -> str:
        """Describe the device for records: ``cpu``, or the names of the GPUs that hold layers."""
        return describe_devices(group.device for group in self.layout.groups)


def load_model(
    name: str,
    *,
    dtype: DTypeName = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    weights: WeightsName = "model",
) -> LoadedModel:
    """Load a model by name (see ``model_source``).

    ``device="auto"`` takes CUDA if available, else the CPU; accelerate spreads the model over all visible GPUs if there
    are several. ``dtype="auto"`` is bfloat16 on a GPU and float32 on a CPU. ``weights="int8"`` quantises all linear
    layers, on a CPU. Raise ``ModelError`` if the model cannot be
    loaded.
    """
    check_model(name)
    source = find_model(name)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device is 'cuda'; no CUDA device is visible")
    torch_dtype = choose_dtype(dtype, device)
    transformers_logging.disable_progress_bar()

    if source.kind == "random":
        with _one_line(name):
            shape = dict(random_shape(name, source))
            config = AutoConfig.for_model(shape.pop("model_type"), **shape)
            torch.manual_seed(0)
            with torch.device(device):
                network = AutoModelForCausalLM.from_config(
                    config, dtype=torch_dtype, attn_implementation=attention_of(config)
                )
            if weights == "int8":
                quantise_weights(name, network, tokenizer=None)
            commit = _commit_of(config_file(name, source.shape)) if source.shape else None
            identity = ModelIdentity(commit=commit, quantisation=DESCRIPTION if weights == "int8" else None)
            return replace(wrap_model(name, network, tokenizer=None), identity=identity)

    with _one_line(name), _quiet():
        weights_digest = commit = None
        if source.kind == "gguf":
            gguf = Path(source.location)
            weights_digest = sha256_of(gguf)
            if source.named is not None and weights_digest != source.named.sha256:
                allowed = f"{source.named.sha256}; remove the file, then {source.named.remedy}"
                raise ModelError(f"{gguf}: SHA-256 is {weights_digest}; allowed: {allowed}")
            folder = converted(gguf, weights_digest)
            location, revision = str(folder), None
        else:
            folder = config_file(name, source).parent
            location, revision = source.location, source.revision
            if source.kind == "hub" and (commit := _commit_of(folder / "config.json")) is not None:
                revision = commit  # a branch may move between the downloads of two files
        config = AutoConfig.from_pretrained(location, revision=revision)
        check_config(name, config.to_dict())
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # transformers' types know nothing of the loading info
            location,
            revision=revision,
            config=config,
            dtype=torch_dtype,
            attn_implementation=attention_of(config),
            use_safetensors=True,  # never unpickle weights
            device_map="auto" if device == "cuda" and torch.cuda.device_count() > 1 else device,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the loading info lists them, and we refuse them
        )
        network, loading = loaded
        prove_weights(name, network, loading)
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
        prove_vocabulary(name, network, tokenizer)
        if source.kind == "hub":  # its files are local by now
            check_small_files(folder, config.vocab_size)
        quantisation = quantisation_of(name, config.to_dict())
        if weights == "int8":
            quantise_weights(name, network, tokenizer)
            quantisation = DESCRIPTION
        digest = weights_digest or digest_of(weight_files(folder))
        identity = identity_of(digest, tokenizer, commit, quantisation, network.config)
        model = wrap_model(name, network, tokenizer)
        end_ids = model.eos_ids if source.named is None else model.eos_ids | source.named.end_ids
        return replace(model, identity=identity, eos_ids=end_ids)


def _commit_of(config: Path) -> str | None:
    """Return the commit of a file in the Hub's cache, where the folder has its name; None for any other file."""
    return config.parent.name if _COMMIT.fullmatch(config.parent.name) else None


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn any exception that foreign files cause in transformers into one line, but not running out of memory,
    which is not their fault."""
    try:
        yield
    except ModelError:
        raise
    except JsonError as error:
        raise naming(name, error) from None
    except Exception as error:  # transformers may raise anything here
        if is_out_of_memory(error):
            raise
        reason = next((line for line in str(error).strip().splitlines() if line.strip()), "")
        raise ModelError(
            f"model is {shown(name)}; it cannot be loaded: {type(error).__name__}: {reason.strip()[:300]}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the report that transformers prints of missing weights, which we raise as an error."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def choose_dtype(dtype: DTypeName, device: str) -> torch.dtype:
    """Return the dtype of weights and KV; ``auto`` is bfloat16 on a GPU and float32 on a CPU."""
    return _DTYPES[("bfloat16" if device == "cuda" else "float32") if dtype == "auto" else dtype]


def wrap_model(name: str, network: PreTrainedModel, tokenizer: Any | None) -> LoadedModel:
    """Wrap a transformers model that is already in memory in a ``LoadedModel``. Raise ``ModelError`` if it cannot be
    served."""
    config = network.config
    check_config(name, config.to_dict())
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    devices = [next(layer.parameters()).device for layer in network.model.layers]
    layer_types, window = read_windows(config)
    # Chat models often end a turn with a token that only generation_config lists.
    eos = network.generation_config.eos_token_id if network.generation_config is not None else None
    eos = config.eos_token_id if eos is None else eos
    eos_ids = check_end_tokens(name, eos, config.vocab_size)
    network.eval()
    network.requires_grad_(False)
    pack_linears(network)
    layout, scales = KVLayout(layer_groups(devices), heads, head_dim, network.dtype), read_scales(config)
    step = build_step(network, layout, layer_types, scales.embedding)
    return LoadedModel(
        name,
        network,
        tokenizer,
        layout=layout,
        rope=read_rope(name, network, layer_types, head_dim),
        eos_ids=eos_ids,
        context=served_context(config.to_dict()),
        layer_types=layer_types,
        window=window,
        scales=scales,
        rotates_by_layer_type=rotates_by_layer_type(network),
        step=step if isinstance(step, DecodeStep) else None,
        decoding="fused" if isinstance(step, DecodeStep) else f"transformers: {step}",
    )


def _main(name: str) -> int:
    start = time.perf_counter()
    try:
        model = load_model(name)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    where = getattr(model.network, "name_or_path", "") or "memory"
    sys.stdout.write(
        f"{name}: from {where}, {model.dtype} on {model.describe_device()}, "
        f"loaded in {time.perf_counter() - start:.1f} s\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(*(sys.argv[1:2] or ["embedded"])))
