"""Load a model by name, ready for the engine.

``python -m kvcomm_core.model NAME`` loads one and prints where it came from; set-up uses it to convert the embedded
model ahead of the first run.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from kvcomm_core.kv import KVLayout, layer_groups
from kvcomm_core.model_source import (
    EMBEDDED_FILE,
    EMBEDDED_SHA256,
    RANDOM_SHAPES,
    ModelError,
    check_config,
    check_model,
    find_model,
    sha256_of,
)
from kvcomm_core.rope import Rope

DTypeName = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model with what the engine needs to know of it."""

    name: str
    network: Any
    """The transformers model, in evaluation mode; ``Any`` because transformers ships no types."""
    tokenizer: Any | None
    """None for random weights: there is no text to speak of."""
    layout: KVLayout
    rope: Rope
    eos_ids: frozenset[int]
    """Any of these ends an answer."""

    @property
    def device(self) -> torch.device:
        """Where token ids go in; the device of the first layer."""
        return self.layout.groups[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and KV."""
        return self.layout.dtype

    def require_context(self, tokens: int) -> None:
        """Raise ``ValueError`` if the model was not made for ``tokens`` positions."""
        context: int = self.network.config.max_position_embeddings
        if tokens > context:
            raise ValueError(f"prompt and answer take {tokens} tokens; allowed: the model's context of {context}")

    def describe_device(self) -> str:
        """For records: ``cpu``, or the names of the GPUs that hold layers."""
        devices = [group.device for group in self.layout.groups]
        return ", ".join(
            f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
            for device in dict.fromkeys(devices)
        )


def load_model(
    name: str,
    *,
    dtype: DTypeName = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> LoadedModel:
    """Load a model by name (see ``model_source``).

    ``device="auto"`` takes CUDA if there is any, spread by accelerate over all visible GPUs if there are several,
    else the CPU. ``dtype="auto"`` is bfloat16 on a GPU and float32 on a CPU. Raises ``ModelError``.
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
        shape = dict(RANDOM_SHAPES[source.location])
        config = AutoConfig.for_model(shape.pop("model_type"), **shape)
        torch.manual_seed(0)
        with torch.device(device):
            network = AutoModelForCausalLM.from_config(config, dtype=torch_dtype, attn_implementation="sdpa")
        return wrap_model(name, network, tokenizer=None)

    location = source.location if source.kind != "gguf" else str(_converted(Path(source.location)))
    try:
        config = AutoConfig.from_pretrained(location)
        check_config(name, config.to_dict())
        network = AutoModelForCausalLM.from_pretrained(
            location,
            dtype=torch_dtype,
            attn_implementation="sdpa",
            use_safetensors=True,  # never unpickle weights
            device_map="auto" if device == "cuda" and torch.cuda.device_count() > 1 else device,
        )
        tokenizer = AutoTokenizer.from_pretrained(location)
    except OSError as error:
        raise ModelError(f"model is {name!r}; {str(error).strip().splitlines()[0]}") from None
    return wrap_model(name, network, tokenizer)


def choose_dtype(dtype: DTypeName, device: str) -> torch.dtype:
    """The dtype of weights and KV; ``auto`` is bfloat16 on a GPU and float32 on a CPU."""
    return _DTYPES[("bfloat16" if device == "cuda" else "float32") if dtype == "auto" else dtype]


def wrap_model(name: str, network: PreTrainedModel, tokenizer: Any | None) -> LoadedModel:
    """A ``LoadedModel`` around a transformers model that is already in memory. Raises ``ModelError``."""
    config = network.config
    check_config(name, config.to_dict())
    decoder = network.model
    inv_freq = decoder.rotary_emb.inv_freq
    if inv_freq.dtype != torch.float32:
        raise ModelError(f"{name}: rotary frequencies are {inv_freq.dtype}; allowed: float32")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    devices = [next(layer.parameters()).device for layer in decoder.layers]
    layout = KVLayout(layer_groups(devices), config.num_key_value_heads, head_dim, network.dtype)
    # Chat models often end a turn with a token that only generation_config knows.
    eos = network.generation_config.eos_token_id if network.generation_config is not None else None
    eos = config.eos_token_id if eos is None else eos
    eos_ids = frozenset([] if eos is None else [eos] if isinstance(eos, int) else eos)
    network.eval()
    network.requires_grad_(False)
    return LoadedModel(name, network, tokenizer, layout, Rope(tuple(inv_freq.tolist())), eos_ids)


def _converted(gguf: Path) -> Path:
    """The folder with the safetensors made from a GGUF file, made now if this is the first time.

    Reading GGUF dequantises for many seconds; later loads from the folder take less than one. The folder is named
    by the file's content and appears whole or not at all.
    """
    sha256 = sha256_of(gguf)
    if gguf.name == EMBEDDED_FILE and sha256 != EMBEDDED_SHA256:
        raise ModelError(f"{gguf}: SHA-256 is {sha256}; the embedded model's is {EMBEDDED_SHA256}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvcomm" / "models"
    folder = cache / f"{gguf.stem}-{sha256[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{folder.name}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix=".converting-") as scratch:
                whole = Path(scratch) / "model"
                _convert(gguf, whole)
                whole.rename(folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    try:
        quantised = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="sdpa"
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{gguf}: not a GGUF model that transformers reads: {error}") from None
    # With its quantizer attached the model cannot be saved, so a fresh one takes over the weights.
    config = quantised.config
    del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(quantised.state_dict())
    fresh.generation_config = quantised.generation_config
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _main(name: str) -> int:
    start = time.perf_counter()
    try:
        model = load_model(name)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    where = getattr(model.network, "name_or_path", "") or "memory"
    sys.stdout.write(
        f"{name}: {model.network.num_parameters():,} parameters from {where}, {model.dtype} on "
        f"{model.describe_device()}, loaded in {time.perf_counter() - start:.1f} s\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(*(sys.argv[1:2] or ["embedded"])))
