"""The model ``coder``, against an implementation of its own. Skipped where it was not fetched: it has 491 MB."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kvcomm_core.models.loading import LoadedModel, load_model
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.named_models import NAMED_MODELS

PROMPT = "<|im_start|>user\ndef add(a, b):<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def gguf_file() -> Path:
    try:
        return NAMED_MODELS["coder"].find()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def coder(gguf_file: Path) -> LoadedModel:
    return load_model("coder", dtype="float32", device="cpu")


def logits_by_hand(path: Path, token_ids: list[int]) -> torch.Tensor:
    """Return the logits after the last token, by the published equations of Qwen2, from the tensors as the ``gguf``
    package reads and dequantises them."""
    from gguf import GGUFReader, dequantize

    found = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    layers, heads, groups, size, epsilon, theta = 24, 14, 2, 64, 1e-6, 1e6

    def weight(name: str) -> torch.Tensor:
        tensor = found[name]
        return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())

    def normed(x_TE: torch.Tensor, name: str) -> torch.Tensor:
        return x_TE / (x_TE.pow(2).mean(-1, keepdim=True) + epsilon).sqrt() * weight(name)

    def rotated(x_THD: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(len(token_ids))[:, None] * theta ** (-torch.arange(0, size, 2) / size)
        turn = torch.polar(torch.ones_like(angles), angles)[:, None]
        first, second = x_THD.split(size // 2, dim=-1)
        turned = torch.complex(first, second) * turn
        return torch.cat((turned.real, turned.imag), dim=-1)

    def projected(x_TE: torch.Tensor, name: str, count: int) -> torch.Tensor:
        return (x_TE @ weight(f"{name}.weight").T + weight(f"{name}.bias")).view(len(token_ids), count, size)

    later = torch.ones(len(token_ids), len(token_ids), dtype=torch.bool).triu(1)
    x_TE = weight("token_embd.weight")[token_ids]
    for layer in range(layers):
        block = f"blk.{layer}"
        h_TE = normed(x_TE, f"{block}.attn_norm.weight")
        q_THD = rotated(projected(h_TE, f"{block}.attn_q", heads))
        k_THD = rotated(projected(h_TE, f"{block}.attn_k", groups)).repeat_interleave(heads // groups, dim=1)
        v_THD = projected(h_TE, f"{block}.attn_v", groups).repeat_interleave(heads // groups, dim=1)
        scores = torch.einsum("qhd,khd->hqk", q_THD, k_THD) / size**0.5
        mixed = torch.einsum("hqk,khd->qhd", scores.masked_fill(later, -torch.inf).softmax(-1), v_THD)
        x_TE = x_TE + mixed.flatten(1) @ weight(f"{block}.attn_output.weight").T
        h_TE = normed(x_TE, f"{block}.ffn_norm.weight")
        gate = torch.nn.functional.silu(h_TE @ weight(f"{block}.ffn_gate.weight").T)
        x_TE = x_TE + (gate * (h_TE @ weight(f"{block}.ffn_up.weight").T)) @ weight(f"{block}.ffn_down.weight").T
    return weight("output.weight") @ normed(x_TE, "output_norm.weight")[-1]


@pytest.mark.slow
def test_logits_are_those_of_the_equations(coder: LoadedModel, gguf_file: Path) -> None:
    """Catches rows of a head in another order, biases left out, and the output layer taken for the embedding, which
    differ in this file."""
    tokenizer: Any = coder.tokenizer
    token_ids = tokenizer(PROMPT, add_special_tokens=False).input_ids
    with torch.no_grad():
        ours = coder.network(torch.tensor([token_ids])).logits[0, -1]
        theirs = logits_by_hand(gguf_file, token_ids)
    assert int(ours.argmax()) == int(theirs.argmax())
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)


@pytest.mark.slow
def test_the_tokenizer_is_the_published_one(coder: LoadedModel) -> None:
    """Catches marks of a turn spelt in bytes, an end of answers that is missing, and digits taken together."""
    tokenizer: Any = coder.tokenizer
    assert tokenizer("Hello, world!", add_special_tokens=False).input_ids == [9707, 11, 1879, 0]
    assert len(tokenizer("2024", add_special_tokens=False).input_ids) == 4
    ids = tokenizer(PROMPT, add_special_tokens=False).input_ids
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") == 151644
    assert ids.count(151645) == 1
    assert coder.eos_ids == {151645, 151643}
    turn = [{"role": "user", "content": "def add(a, b):"}]
    chat = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert chat.endswith(PROMPT)
    assert chat.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.")
