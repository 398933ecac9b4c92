"""Tiny models on disk: a folder laid out as on the Hub, and GGUF files with all relevant kinds of quantisation."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tiny_models import tiny_chat_model
from tokenizers import pre_tokenizers

HIDDEN, LAYERS, INNER = 256, 2, 512
_KINDS = gguf.GGMLQuantizationType


def save_folder(folder: Path) -> None:
    """Save a two-layer Llama with a chat tokenizer. It answers noise and may end its answers."""
    model = tiny_chat_model()
    assert model.tokenizer is not None
    end = model.tokenizer.eos_token_id
    model.network.config.eos_token_id = model.network.generation_config.eos_token_id = end
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def write_gguf(
    path: Path,
    architecture: str = "llama",
    *,
    extra: dict[str, Any] | None = None,
    leave_out: tuple[str, ...] = (),
    more_tensors: dict[str, np.ndarray[Any, Any]] | None = None,
    template: str | None = "{{ messages[0]['content'] }}",
    marks: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
) -> None:
    """Write random weights of two layers, some of them in blocks as in Q4_K_M files.

    ``extra`` adds or overrides metadata. ``leave_out`` names metadata and tensors to omit.
    """
    head_dim = 128 if architecture == "qwen3" else 64
    heads, kv_heads = HIDDEN // head_dim, HIDDEN // head_dim // 2
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", *marks]
    metadata: dict[str, Any] = {
        f"{architecture}.block_count": LAYERS,
        f"{architecture}.context_length": 512,
        f"{architecture}.embedding_length": HIDDEN,
        f"{architecture}.feed_forward_length": INNER,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": kv_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 20000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - len(marks)) + [3] * len(marks),
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
    }
    if architecture == "llama":
        metadata["llama.rope.dimension_count"] = head_dim
    if architecture == "qwen3":
        metadata["qwen3.attention.key_length"] = metadata["qwen3.attention.value_length"] = head_dim
    if template is not None:
        metadata["tokenizer.chat_template"] = template
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**metadata, **(extra or {})}.items():
        if key not in leave_out:
            _add(writer, key, value)
    random = np.random.default_rng(7)
    for name, shape, kind in _tensors(architecture, len(tokens), heads * head_dim, kv_heads * head_dim, head_dim):
        if name not in leave_out:
            raw = _weights(random, shape, kind)
            writer.add_tensor(name, raw, raw_dtype=None if kind in (_KINDS.F32, _KINDS.F16) else kind)
    for name, values in (more_tensors or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def _tensors(
    architecture: str, tokens: int, queries: int, keys: int, head_dim: int
) -> list[tuple[str, tuple[int, ...], Any]]:
    found = [
        ("token_embd.weight", (tokens, HIDDEN), _KINDS.Q8_0),
        ("output_norm.weight", (HIDDEN,), _KINDS.F32),
    ]
    if architecture == "qwen2":  # not tied
        found.append(("output.weight", (tokens, HIDDEN), _KINDS.Q6_K))
    for layer in range(LAYERS):
        of = f"blk.{layer}."
        found += [
            (f"{of}attn_norm.weight", (HIDDEN,), _KINDS.F32),
            (f"{of}attn_q.weight", (queries, HIDDEN), _KINDS.Q4_K),
            (f"{of}attn_k.weight", (keys, HIDDEN), _KINDS.Q4_K),
            (f"{of}attn_v.weight", (keys, HIDDEN), _KINDS.Q6_K),
            (f"{of}attn_output.weight", (HIDDEN, queries), _KINDS.Q4_1),
            (f"{of}ffn_norm.weight", (HIDDEN,), _KINDS.F32),
            (f"{of}ffn_gate.weight", (INNER, HIDDEN), _KINDS.Q5_0),
            (f"{of}ffn_up.weight", (INNER, HIDDEN), _KINDS.F16),
            (f"{of}ffn_down.weight", (HIDDEN, INNER), _KINDS.BF16),
        ]
        if architecture == "qwen2":
            found += [
                (f"{of}attn_{x}.bias", (n,), _KINDS.F32) for x, n in zip("qkv", (queries, keys, keys), strict=True)
            ]
        if architecture == "qwen3":
            found += [(f"{of}attn_{x}_norm.weight", (head_dim,), _KINDS.F32) for x in "qk"]
    return found


def _weights(random: np.random.Generator, shape: tuple[int, ...], kind: Any) -> np.ndarray[Any, Any]:
    """Return the weights as stored in the file. Blocks that gguf does not write are random bytes, scaled plausibly."""
    values = (random.standard_normal(shape) * 0.05).astype(np.float32)
    if kind == _KINDS.F32:
        return values
    if kind == _KINDS.F16:
        return values.astype(np.float16)
    if kind not in (_KINDS.Q4_K, _KINDS.Q6_K):
        return gguf.quantize(values, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (*shape[:-1], shape[-1] // block, size), dtype=np.uint8)
    scale = np.frombuffer(np.float16(0.001).tobytes(), dtype=np.uint8)
    if kind == _KINDS.Q4_K:
        raw[..., 0:2] = raw[..., 2:4] = scale
    else:
        raw[..., 208:210] = scale
    return raw.reshape(*shape[:-1], -1)
