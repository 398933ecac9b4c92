"""What ``kvcomm bench`` measures: one prompt and one answer by each engine, in tokens a second."""

import json
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import Linear
from transformers import AutoModelForCausalLM

from kvcomm_core.decode import advance, decode_greedily, to_logits
from kvcomm_core.fused.packed_linear import PackedLinear, is_served
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from kvcomm_core.template import TokenIds
from sweeps.bench import llama_cpp_process


class Rates(NamedTuple):
    """Tokens a second."""

    prefill: float
    decode: float
    """Of the answer's tokens after the first."""


Arm = Callable[[TokenIds, int], Rates]
"""Takes the prompt and the number of tokens to decode."""


def engine_arm(model: LoadedModel) -> Arm:
    """Return the arm of our engine."""

    def run(prompt: TokenIds, tokens: int) -> Rates:
        buffer = KVBuffer(model.layout, rows=1, capacity=len(prompt) + tokens)
        start = time.perf_counter()
        first_ids = to_logits(model, advance(model, [prompt], buffer)).argmax(dim=-1).tolist()
        middle = time.perf_counter()
        decode_greedily(
            model,
            first_ids,
            buffer,
            positions=[len(prompt)],
            visible_BC=None,
            max_new_tokens=tokens,
            eos_ids=(),
        )
        return Rates(len(prompt) / (middle - start), (tokens - 1) / (time.perf_counter() - middle))

    return run


def plain_network(model: LoadedModel) -> Any:
    """Return transformers' network with the weights of a model and none of our layers."""
    ours = model.network
    network: Any = AutoModelForCausalLM.from_config(ours.config, dtype=model.dtype, attn_implementation="sdpa")
    network.load_state_dict(ours.state_dict())
    return network.eval()


def transformers_arm(model: LoadedModel) -> Arm:
    """Return the arm of ``generate``, on a network of its own."""
    network = plain_network(model)

    @torch.inference_mode()
    def seconds(prompt: TokenIds, tokens: int) -> float:
        ids_BT = torch.tensor([prompt])
        start = time.perf_counter()
        network.generate(
            ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
        )
        return time.perf_counter() - start

    def run(prompt: TokenIds, tokens: int) -> Rates:
        prefill = seconds(prompt, 1)
        return Rates(len(prompt) / prefill, (tokens - 1) / (seconds(prompt, tokens) - prefill))

    return run


class LlamaCpp:
    """The arm of llama.cpp, in a process of its own under another Python."""

    def __init__(self, python: Path, gguf: Path, threads: int, context: int) -> None:
        """Start it. Raise ``ValueError`` if it does not answer, with the last line that it wrote."""
        command = [str(python), llama_cpp_process.__file__, str(gguf), str(threads), str(context)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user names this Python
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise ValueError(f"{python}: {error.strerror or error}") from None
        if not self._read():
            _, errors = self._process.communicate()
            raise ValueError(f"{python}: {(errors.strip().splitlines() or ['it ended without a word'])[-1]}")

    def __call__(self, prompt: TokenIds, tokens: int) -> Rates:
        """Ask for one prompt and answer."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - a pipe
        stdin.write(json.dumps({"prompt": prompt, "tokens": tokens}) + "\n")
        stdin.flush()
        return Rates(**json.loads(self._read()))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - a pipe
        return stdout.readline()


def read_bandwidth() -> float:
    """Return the bytes a second that torch's fastest readers get from memory on all threads: the best of a sum and of a
    product with one row, five times each over 400 MB."""
    numbers = torch.ones(100_000_000)
    parts = max(2, torch.get_num_threads())
    matrix_POI = numbers[: parts * (len(numbers) // 1000 // parts) * 1000].view(parts, -1, 1000)
    row_PIB = torch.ones(1000, 1).expand(parts, 1000, 1)
    readers = ((numbers.sum, numbers.nbytes), (lambda: torch.bmm(matrix_POI, row_PIB), matrix_POI.nbytes))
    return max(size / _fastest(read) for read, size in readers)


def products_per_second() -> float:
    """Return the multiply-adds a second of the faster of torch's float32 matrix products, the best of five each: MKL's,
    and oneDNN's with a matrix that it packed, which may be twice as fast on the same CPU."""
    size = 2048
    x = torch.randn(size, size)
    linear = Linear(size, size, bias=False).requires_grad_(False)
    products = [linear, PackedLinear(linear)] if is_served(linear.weight) else [linear]
    with torch.inference_mode():
        return max(size**3 / _fastest(partial(product, x)) for product in products)


def _fastest(work: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def matrix_bytes_per_token(model: LoadedModel) -> int:
    """Return the bytes of weights that decoding one token reads: all matrices but the rows of an embedding."""
    network = model.network
    linears = [each for each in network.model.layers.modules() if isinstance(each, Linear | PackedLinear)]
    return sum(each.weight.nbytes for each in (*linears, network.get_output_embeddings()))
