import json
from importlib import metadata
from pathlib import Path

import pytest
import torch
from tiny_files import save_folder

from kvcomm_core.decode import advance, to_logits
from kvcomm_core.files.published_files import HubFile
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import load_model
from kvcomm_core.models.model_config import ModelError, check_config
from kvcomm_core.models.model_source import RANDOM_SHAPES, check_model, find_model, kv_shape
from kvcomm_core.models.proof import ModelIdentity
from kvcomm_core.models.quantisation import quantisation_of

LLAMA = {"model_type": "llama", "rope_parameters": {"rope_type": "llama3"}}


SLIDING = {"layer_types": ["full_attention", "sliding_attention"]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA | {"model_type": "gemma3"}, "model_type is 'gemma3', which reads images, too"),
        (LLAMA | {"model_type": "deepseek_v3"}, "model_type is 'deepseek_v3', whose keys are compressed"),
        (LLAMA | {"model_type": "nonsense"}, "model_type is 'nonsense'; allowed: llama, qwen2, qwen3, mistral, "),
        (
            LLAMA | {"rope_parameters": {"rope_type": "longrope"}},
            "the RoPE type of llama is 'longrope'; allowed: default, linear, llama3, yarn, dynamic",
        ),
        ({"model_type": "phi3", "rope_scaling": {"type": "su"}}, "original_max_position_embeddings is None; allowed"),
        ({"model_type": "qwen3", "rope_scaling": {"type": "proportional"}}, "RoPE type of qwen3 is 'proportional'"),
        (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; allowed: 1.0"),
        ({"model_type": "glm4", "partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5; allowed: 0 to 1"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0; allowed: 1 or more, or null"),
        ({"model_type": "qwen3", "sliding_window": None, **SLIDING}, "sliding_window is None; allowed: 1 or more, as"),
        (LLAMA | SLIDING, "layer_types is 'sliding_attention'; allowed: full_attention"),
        ({"model_type": "mistral", "sliding_window": 9, **SLIDING}, "allowed: all alike in mistral"),
        ({"model_type": "qwen3", "layer_types": ["linear_attention"]}, "layer_types is 'linear_attention'; allowed"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    ],
)
def test_models_off_the_allow_list_are_refused_with_the_list(config: dict[str, object], message: str) -> None:
    """Would catch a model whose keys cannot be moved by one rotation, which would be silently wrong."""
    with pytest.raises(ModelError) as refused:
        check_config("m", config)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        {"model_type": "llama", "rope_scaling": None},
        {"model_type": "mistral", "sliding_window": None},
        {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 131072},
        {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 0},
        {"model_type": "qwen3", "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"model_type": "phi3", "rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096},
        {"model_type": "gemma3_text", "rope_scaling": None, "sliding_window": 512, "rope_local_base_freq": 10000.0},
        {"model_type": "gemma3_text", "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}},
        *RANDOM_SHAPES.values(),
    ],
)
def test_models_on_the_allow_list_pass(config: dict[str, object]) -> None:
    """Would catch refusing configurations in the spelling of older releases, or Qwen's unused window."""
    check_config("m", config)


@pytest.mark.parametrize("name", ["", "llama", "random:gpt-2", "no-such-file.gguf", "a/b/c", "../x"])
def test_names_that_mean_nothing_are_one_line(name: str) -> None:
    """Would catch a misspelt name reaching the Hub, or a traceback."""
    with pytest.raises(ModelError, match="model is") as refused:
        check_model(name)
    assert "\n" not in str(refused.value)


def test_a_folder_needs_a_config_and_is_checked(tmp_path: Path) -> None:
    """Would catch checking names only, so that a bad architecture fails after minutes of loading."""
    with pytest.raises(ModelError, match=r"no config\.json"):
        check_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelError, match="model_type is 'gpt2', whose positions are not rotary"):
        check_model(str(tmp_path))
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32}
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **sizes}))
    with pytest.raises(ModelError, match="no weights"):
        check_model(str(tmp_path))
    assert find_model(str(tmp_path)).kind == "folder"


def test_the_shape_of_kv_comes_from_the_configuration(tmp_path: Path) -> None:
    """Would catch query heads taken for key/value heads, and a head size guessed where it is given."""
    assert kv_shape("random:llama-3.1-8b") == (32, 8, 128)
    assert kv_shape("embedded") == kv_shape("random:smollm2-135m") == (30, 3, 64)
    config = {**LLAMA, "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kv_shape(str(tmp_path)) == (3, 4, 8)
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 2, "head_dim": 16}))
    assert kv_shape(str(tmp_path)) == (3, 2, 16)


def save_shape(folder: Path, **more: object) -> str:
    """Write a config.json alone, of a small Qwen3 with experts."""
    folder.mkdir(exist_ok=True)
    config = {
        "model_type": "qwen3_moe",
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "eos_token_id": 5,
    }
    (folder / "config.json").write_text(json.dumps(config | more))
    return str(folder)


def test_random_takes_the_shape_of_a_folder(tmp_path: Path) -> None:
    """Would catch a name of shapes only, weights that are asked for, and a quantisation that random weights lack."""
    name = "random:" + save_shape(tmp_path, quantization_config={"quant_method": "aqlm"}, dtype="float16")
    check_model(name)
    assert kv_shape(name) == (3, 2, 16)
    model = load_model(name, device="cpu")
    assert (model.network.config.model_type, model.tokenizer, str(model.dtype)) == ("qwen3_moe", None, "torch.float32")
    assert model.identity == ModelIdentity()
    again = load_model(name, device="cpu")
    assert torch.equal(model.network.lm_head.weight, again.network.lm_head.weight)
    save_shape(tmp_path, model_type="deepseek_v3")
    with pytest.raises(ModelError, match=r"deepseek_v3.*\(MLA\)"):
        check_model(name)


def test_random_takes_the_shape_of_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a revision that is lost, and a shape whose commit no record holds."""
    asked = []

    def fetch(file: HubFile) -> Path:
        asked.append((file.repo_id, file.filename, file.revision, file.repo_type))
        return Path(save_shape(tmp_path / ("0" * 40))) / "config.json"

    monkeypatch.setattr(HubFile, "fetch", fetch)
    model = load_model("random:org/name@v1", device="cpu")
    assert set(asked) == {("org/name", "config.json", "v1", "model")}
    assert model.identity == ModelIdentity(commit="0" * 40)


def test_random_of_what_has_no_shape_is_one_line(tmp_path: Path) -> None:
    """Would catch a GGUF file or a folder of anything taken for a shape."""
    allowed = r"allowed after random: llama-3\.1-8b, .*, a folder with config\.json, a Hub id"
    for shape in (str(tmp_path), "embedded", "file.gguf", ""):
        with pytest.raises(ModelError, match=allowed) as one:
            find_model(f"random:{shape}")
        assert "\n" not in str(one.value)


@pytest.mark.parametrize(
    ("quantization_config", "message"),
    [
        ({"quant_method": "aqlm"}, "its weights are quantised by aqlm, which needs aqlm; pip install aqlm"),
        ({"quant_method": "gptq", "bits": 4}, "by gptq, which needs gptqmodel and optimum; pip install gptqmodel"),
        ({"load_in_4bit": True}, "by bitsandbytes, which needs bitsandbytes"),
        ({"quant_method": "nonsense"}, "quant_method is 'nonsense'; allowed: aqlm, auto-round, awq, bitsandbytes"),
        ({"bits": 4}, "quant_method is None"),
        ([4], "quantization_config is [4]; allowed: an object"),
    ],
)
def test_quantised_weights_name_the_package_they_need(
    quantization_config: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch the page of text with which transformers ends, minutes later."""
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: installed("no-" * (name != "accelerate") + name))
    name = save_shape(tmp_path, quantization_config=quantization_config)
    with pytest.raises(ModelError) as refused:
        check_model(name)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_quantisation_is_described_for_records() -> None:
    """Would catch 8 bits recorded as 4, and a model without quantisation recorded as quantised."""
    described = [
        quantisation_of("m", {"quantization_config": config})
        for config in (
            None,
            {"quant_method": "mxfp4"},
            {"quant_method": "awq", "bits": 4},
            {"quant_method": "torchao", "quant_type": {}},
            {"load_in_8bit": True, "load_in_4bit": False},
        )
    ]
    assert described == [None, "mxfp4, 4 bits", "awq, 4 bits", "torchao", "bitsandbytes, 8 bits"]


@pytest.mark.slow
def test_quantised_weights_are_served_as_transformers_loads_them(tmp_path: Path) -> None:
    """Would catch a check of weights that packed tensors break, and a product with their packed form."""
    torchao = pytest.importorskip("torchao.quantization")
    from transformers import AutoModelForCausalLM, AutoTokenizer, TorchAoConfig

    plain, quantised = tmp_path / "plain", tmp_path / "quantised"
    save_folder(plain)
    how = TorchAoConfig(torchao.Int8WeightOnlyConfig())
    network = AutoModelForCausalLM.from_pretrained(
        plain, dtype=torch.float32, quantization_config=how, device_map="cpu"
    )
    network.save_pretrained(quantised)
    AutoTokenizer.from_pretrained(plain).save_pretrained(quantised)
    model = load_model(str(quantised), device="cpu")
    assert model.identity.quantisation == "torchao"
    buffer = KVBuffer(model.layout, rows=1, capacity=4)
    logits_V = to_logits(model, advance(model, [(1, 2, 3, 4)], buffer))[0]
    with torch.inference_mode():
        expected_V = model.network(torch.tensor([[1, 2, 3, 4]])).logits[0, -1]
        plain_V = load_model(str(plain), device="cpu").network(torch.tensor([[1, 2, 3, 4]])).logits[0, -1]
    torch.testing.assert_close(logits_V, expected_V, rtol=0, atol=1e-4)
    assert 1e-3 < (logits_V - plain_V).abs().max() < 1


def test_a_hub_id_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Would catch the Hub client's half minute of retries and its page of text."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE") as refused:
        check_model("nobody/no-such-model")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("revision", ["main", "v1.0", "0" * 40, "refs/pr/3"])
def test_a_hub_id_may_carry_a_revision(revision: str) -> None:
    """Would catch a commit that becomes part of the repository's name."""
    source = find_model(f"org/name@{revision}")
    assert (source.kind, source.location, source.revision) == ("hub", "org/name", revision)
    assert find_model("org/name").revision is None


@pytest.mark.parametrize("name", ["org/name@", "org/name@../x", "org/name@a@b", "org/name@-x", "name@main"])
def test_a_revision_that_is_none(name: str) -> None:
    """Would catch a path outside the cache, or an option, in place of a revision."""
    with pytest.raises(ModelError, match="allowed: embedded, coder, a Hub id"):
        find_model(name)


def test_a_hub_id_that_the_client_refuses_is_one_line() -> None:
    """Would catch the traceback of the client's own check of names."""
    with pytest.raises(ModelError, match="is not available") as refused:
        check_model("a--b/c..d")
    assert "\n" not in str(refused.value)
