"""``kvcomm bench``: rows that are what they say, on a tiny model, and one line for bad input."""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from tiny_families import tiny_config
from typer.testing import CliRunner

from kvcomm_core.models.loading import load_model
from sweeps.bench.arms import LlamaCpp, Rates, matrix_bytes_per_token, transformers_arm
from sweeps.bench.gguf_copies import write_copy
from sweeps.cli import app

SPEAKS = """#!{python}
import json, sys
print(json.dumps({{"loaded": sys.argv[2]}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({{"prefill": len(request["prompt"]), "decode": request["tokens"]}}), flush=True)
"""


def bench(*arguments: str) -> dict[str, dict[str, object]]:
    done = CliRunner().invoke(app, ["bench", "--json", *arguments])
    assert done.exit_code == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["rows"]}


@pytest.fixture
def shape(tmp_path: Path) -> str:
    """A folder with the configuration of a tiny model."""
    tiny_config("llama").save_pretrained(tmp_path / "shape")
    return f"random:{tmp_path / 'shape'}"


def test_rows_of_all_engines(shape: str) -> None:
    """Catches an engine that is missing without a word, a ratio to another row, and a limit of other weights."""
    threads = torch.get_num_threads()
    rows = bench("--model", shape, "--prompt", "12", "--tokens", "4", "--rounds", "2")
    torch.set_num_threads(threads)
    assert list(rows) == [
        "kvcomm, float32",
        "transformers, generate",
        "kvcomm, int8",
        "llama.cpp, F32",
        "llama.cpp, Q8_0",
        "limit, float32",
        "limit, int8",
    ]
    assert rows["kvcomm, float32"]["decode_ratio"] == rows["kvcomm, float32"]["prefill_ratio"] == 1.0
    assert rows["kvcomm, float32"]["note"] == "decoding: fused"
    assert all(isinstance(rows[name]["decode"], float) for name in rows if not name.startswith("llama"))
    assert rows["llama.cpp, F32"]["decode"] is None
    assert str(rows["llama.cpp, F32"]["note"]).startswith("not installed")
    assert rows["limit, int8"]["decode"] == pytest.approx(4 * float(str(rows["limit, float32"]["decode"])))


def test_weights_that_a_token_reads(shape: str) -> None:
    """Catches a limit that counts the embedding twice or leaves out the output layer."""
    model = load_model(shape, dtype="float32", device="cpu")
    hidden, inner, heads, kv, vocabulary = 64, 96, 4 * 16, 2 * 16, 97
    layer = hidden * (2 * heads + 2 * kv) + 3 * hidden * inner
    assert matrix_bytes_per_token(model) == 4 * (6 * layer + hidden * vocabulary)


def test_generate_runs_none_of_our_layers(shape: str) -> None:
    """Catches a comparison of our layers with themselves, and other weights."""
    model = load_model(shape, dtype="float32", device="cpu")
    networks = []
    real = model.network.generate.__func__

    def keep(network: object, *arguments: object, **more: object) -> object:
        networks.append(network)
        return real(network, *arguments, **more)

    arm = transformers_arm(model)
    type(model.network).generate = keep
    try:
        arm((1, 2, 3), 3)
    finally:
        del type(model.network).generate
    [network] = {id(each): each for each in networks}.values()
    assert network is not model.network
    assert all(module.__module__.startswith(("torch.", "transformers.")) for module in network.modules())
    assert torch.equal(network.lm_head.weight, model.network.lm_head.weight)


def test_a_process_of_llama_cpp_is_asked_and_ended(tmp_path: Path) -> None:
    """Catches an answer read for the wrong request, a process that stays, and a traceback for an environment without
    the package."""
    python = tmp_path / "python"
    python.write_text(SPEAKS.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    arm = LlamaCpp(python, tmp_path / "m.gguf", 1, 64)
    assert [arm((1, 2, 3), 5), arm((1,), 2)] == [Rates(3, 5), Rates(1, 2)]
    arm.close()
    assert arm._process.poll() is not None
    with pytest.raises(ValueError, match="No module named 'xllamacpp'"):
        LlamaCpp(Path(sys.executable), tmp_path / "m.gguf", 1, 64)


def test_copies_of_a_gguf_file(tmp_path: Path) -> None:
    """Catches a copy with other weights or another vocabulary, which would time another model."""
    weights = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    packed = quantize(weights, gguf.GGMLQuantizationType.Q4_1)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(1)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("output.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("output_norm.weight", weights[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
    for kind, largest in (("F32", 0.0), ("Q8_0", 0.02)):
        write_copy(tmp_path / "m.gguf", tmp_path / f"{kind}.gguf", kind)  # type: ignore[arg-type]
        reader = gguf.GGUFReader(tmp_path / f"{kind}.gguf")
        assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
        assert reader.fields["llama.block_count"].contents() == 1
        output, norm = reader.tensors
        assert (output.tensor_type.name, norm.tensor_type.name) == (kind, "F32")
        assert np.abs(dequantize(output.data, output.tensor_type) - expected).max() <= largest
        assert np.array_equal(norm.data, weights[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--llama-cpp", "nowhere/python"), "--llama-cpp is nowhere/python; allowed: the Python of an environment"),
        (("--model", "no such model"), "model is 'no such model'"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    """Catches a traceback."""
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert said in done.stderr
