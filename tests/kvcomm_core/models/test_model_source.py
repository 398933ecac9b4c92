import json
from pathlib import Path

import pytest

from kvcomm_core.models.model_config import ModelError, check_config
from kvcomm_core.models.model_source import RANDOM_SHAPES, check_model, find_model, kv_shape

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
    with pytest.raises(ModelError, match="allowed: embedded, a Hub id"):
        find_model(name)


def test_a_hub_id_that_the_client_refuses_is_one_line() -> None:
    """Would catch the traceback of the client's own check of names."""
    with pytest.raises(ModelError, match="is not available") as refused:
        check_model("a--b/c..d")
    assert "\n" not in str(refused.value)
