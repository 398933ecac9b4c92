"""The model families that the engine serves, and why it refuses others. Loads no torch.

A family is one ``model_type`` of transformers. Each entry of ``FAMILIES`` is there because a model of it with random
weights gives the same turns as the method written out slowly (``tests/kvcomm_core/models/test_families.py``), with each
of its RoPE types. The README's table is this list.
"""

from dataclasses import dataclass, field
from typing import Literal

from kvcomm_core.config import Pairs

USUAL_ROPES = ("default", "linear", "llama3", "yarn", "dynamic")
"""RoPE types that transformers implements once for all families."""
LIMITED_ROPES = {
    "dynamic": "max_position_embeddings",
    "longrope": "original_max_position_embeddings",
}
"""RoPE types whose frequencies change once a prompt is longer than that field of the configuration. Up to there they
are constant, and the engine serves no longer prompts: keys of other frequencies cannot be moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The traits that set a family apart from Llama, as far as the engine has to know it."""

    models: str
    """Well-known models of the family."""
    ropes: tuple[str, ...] = USUAL_ROPES
    pairs: Pairs = "halves"
    partial: bool = False
    """Whether its models may rotate the first part of each head only."""
    windows: Literal["none", "one", "by_layer"] = "none"
    """Whether layers may see only the last ``sliding_window`` tokens: none of them, all alike, or as ``layer_types``
    says."""
    unrotated: Literal["none", "no_rope_layers", "full_attention", "full_beside_windows"] = "none"
    """The layers whose keys are not rotated: none, those with 0 in the field ``no_rope_layers``, those with full
    attention, or these only in a model that has a window."""
    scales: frozenset[str] = field(default_factory=frozenset)
    """Fields of the configuration that multiply or cap hidden states and logits."""
    eager: bool = False
    """Whether it runs with transformers' plain attention only, because PyTorch's fused one lacks a part of it."""
    mlp_matrices: int = 3
    """Matrices of an MLP: 3 if gated, else 2."""
    head_dim: int | None = None
    """Size of a head if the configuration names none; None for ``hidden_size`` by ``num_attention_heads``."""


def _scales(*names: str) -> frozenset[str]:
    return frozenset(names)


_GRANITE = _scales("embedding_multiplier", "logits_scaling")
_GEMMA = _scales("final_logit_softcapping")

FAMILIES: dict[str, Family] = {
    "llama": Family(models="Llama 2 and 3, SmolLM2, Yi, DeepSeek-R1-Distill-Llama"),
    "qwen2": Family(models="Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen", windows="by_layer"),
    "qwen3": Family(models="Qwen3", windows="by_layer", head_dim=128),
    "mistral": Family(models="Mistral 7B, Mistral Nemo, Mistral Small 2409", windows="one"),
    "qwen2_moe": Family(models="Qwen1.5-MoE, Qwen2-57B-A14B", windows="by_layer"),
    "qwen3_moe": Family(models="Qwen3-30B-A3B, Qwen3-235B-A22B", windows="one", head_dim=128),
    "mixtral": Family(models="Mixtral 8x7B and 8x22B", windows="one"),
    "phi": Family(models="Phi-1.5, Phi-2", partial=True, mlp_matrices=2),
    "phi3": Family(
        models="Phi-3, Phi-3.5, Phi-4, Phi-4-mini", ropes=("default", "longrope"), partial=True, windows="one"
    ),
    "gemma": Family(models="Gemma 1, CodeGemma", head_dim=256),
    "gemma2": Family(models="Gemma 2", windows="by_layer", scales=_GEMMA, eager=True, head_dim=256),
    "gemma3_text": Family(models="Gemma 3 270M and 1B", windows="by_layer", scales=_GEMMA, head_dim=256),
    "gpt_oss": Family(models="gpt-oss-20b and -120b", windows="by_layer", eager=True, head_dim=64),
    "granite": Family(models="Granite 3", scales=_GRANITE),
    "granitemoe": Family(models="Granite 3 MoE", scales=_GRANITE),
    "olmo2": Family(models="OLMo 2"),
    "olmo3": Family(models="Olmo 3", windows="by_layer"),
    "olmoe": Family(models="OLMoE"),
    "seed_oss": Family(models="Seed-OSS-36B", head_dim=128),
    "smollm3": Family(models="SmolLM3", windows="by_layer", unrotated="no_rope_layers"),
    "cohere": Family(models="Command R, Aya 23", pairs="neighbours", scales=_scales("logit_scale")),
    "cohere2": Family(
        models="Command R7B, Command A",
        pairs="neighbours",
        windows="by_layer",
        unrotated="full_attention",
        scales=_scales("logit_scale"),
    ),
    "exaone4": Family(models="EXAONE 4.0", windows="by_layer", unrotated="full_beside_windows"),
    "glm4": Family(models="GLM-4-0414", pairs="neighbours", partial=True, head_dim=128),
    "glm4_moe": Family(models="GLM-4.5, GLM-4.5-Air, GLM-4.6", partial=True, head_dim=128),
    "ernie4_5": Family(models="ERNIE 4.5 0.3B", pairs="neighbours", head_dim=128),
    "ernie4_5_moe": Family(models="ERNIE 4.5 21B-A3B", pairs="neighbours"),
    "nemotron": Family(models="Nemotron-4, Minitron", partial=True, mlp_matrices=2),
    "stablelm": Family(models="StableLM 2, StableLM Zephyr", partial=True),
    "starcoder2": Family(models="StarCoder2", windows="one", mlp_matrices=2),
}

_MLA = "whose keys are compressed into a latent vector of which one part rotates (MLA)"
_LINEAR = "some of whose layers keep a running state instead of keys and values"
_NORM_AFTER = "which scales each channel of a key after rotating it, so that no rotation moves the key"
_IMAGES = "which reads images, too, and keeps its text model in another place"
_NOT_ROTARY = "whose positions are not rotary"
_OTHER_MODULES = "whose layers transformers keeps in other places"

REFUSED: dict[str, str] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "minicpm3"), _MLA),
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5_text", "lfm2", "jamba", "bamba", "falcon_h1", "granitemoehybrid", "nemotron_h"), _LINEAR
    ),
    **dict.fromkeys(("mamba", "mamba2", "zamba2", "recurrent_gemma", "rwkv", "minimax", "kimi_linear"), _LINEAR),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe"), _NORM_AFTER),
    **dict.fromkeys(("gemma3", "gemma3n", "mistral3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava"), _IMAGES),
    **dict.fromkeys(("gpt2", "gpt_neo", "opt", "bloom", "mpt", "gpt_bigcode"), _NOT_ROTARY),
    **dict.fromkeys(("gpt_neox", "gptj", "falcon", "codegen"), _OTHER_MODULES),
    "llama4_text": "whose layers attend to chunks of the prompt",
}
"""The reasons why the engine cannot serve some well-known families."""
