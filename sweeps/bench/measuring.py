"""The rounds of ``kvcomm bench``: every arm once per round, in an order that turns, so that load meets them all."""

import random
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from kvcomm_core.models.loading import load_model
from kvcomm_core.models.model_config import ModelError
from kvcomm_core.models.model_source import find_model
from kvcomm_core.template import TokenIds
from sweeps.bench.arms import (
    Arm,
    LlamaCpp,
    Rates,
    engine_arm,
    matrix_bytes_per_token,
    products_per_second,
    read_bandwidth,
    transformers_arm,
)
from sweeps.bench.flips import Flips, count_flips, random_texts
from sweeps.bench.gguf_copies import Weights, write_copy

OURS = "kvcomm, float32"
_LLAMA_CPP: tuple[tuple[str, Weights], ...] = (("llama.cpp, F32", "F32"), ("llama.cpp, Q8_0", "Q8_0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure."""

    model: str
    prompt_tokens: int
    new_tokens: int
    rounds: int
    llama_cpp: Path | None
    """The Python of an environment with the package ``xllamacpp``; None for none."""
    texts: int = 0
    """Number of texts along which flips are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One row of the table; rates in tokens a second, None where there are none."""

    name: str
    decode: float | None = None
    """Median over the rounds."""
    decode_ratio: float | None = None
    """Median over the rounds of the rate relative to our float32 in the same round."""
    prefill: float | None = None
    prefill_ratio: float | None = None
    decode_rounds: tuple[float, ...] = ()
    """The rate of each round."""
    prefill_rounds: tuple[float, ...] = ()
    note: str = ""
    """Why there are no rates, or how they came about."""


def run_bench(options: BenchOptions) -> tuple[list[BenchRow], list[Flips]]:
    """Measure all arms and return the table, and the flips if there are to be texts. Raise ``ModelError`` for a model
    that cannot be served."""
    model = load_model(options.model, dtype="float32", device="cpu")
    model.require_context(options.prompt_tokens + options.new_tokens)
    arms: dict[str, Arm] = {OURS: engine_arm(model), "transformers, generate": transformers_arm(model)}
    notes = {OURS: f"decoding: {model.decoding}"}
    weights_bytes = {"float32": matrix_bytes_per_token(model)}
    int8 = None
    try:
        int8 = load_model(options.model, dtype="float32", device="cpu", weights="int8")
        arms["kvcomm, int8"] = engine_arm(int8)
        weights_bytes["int8"] = weights_bytes["float32"] // 4
    except ModelError as error:
        notes["kvcomm, int8"] = str(error)
    with ExitStack() as stack:
        for name, weights in _LLAMA_CPP:
            try:
                arms[name] = _llama_cpp(options, weights, stack)
            except ValueError as error:
                notes[name] = str(error)
        generator, vocabulary = random.Random(0), model.network.config.vocab_size
        prompt = tuple(generator.randrange(vocabulary) for _ in range(options.prompt_tokens))
        rounds = _rounds(arms, prompt, options)
    rows = [_row(name, rounds, notes.get(name, "")) for name in arms]
    rows += [BenchRow(name=name, note=note) for name, note in notes.items() if name not in arms]
    flips = []
    if options.texts:
        texts = random_texts(options.texts, options.prompt_tokens + options.new_tokens, vocabulary)
        flips = count_flips(model, int8, texts, options.prompt_tokens)
    return [*rows, *_limits(weights_bytes)], flips


def _llama_cpp(options: BenchOptions, weights: Weights, stack: ExitStack) -> Arm:
    """Start llama.cpp for one file. Raise ``ValueError`` if that is not possible."""
    source = find_model(options.model)
    if options.llama_cpp is None:
        raise ValueError("not installed: --llama-cpp names the Python of an environment with xllamacpp")
    if source.kind != "gguf":
        raise ValueError(f"{options.model} is no GGUF file")
    file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"{weights}.gguf"
    write_copy(Path(source.location), file, weights)
    context = options.prompt_tokens + options.new_tokens + 1
    arm = LlamaCpp(options.llama_cpp, file, torch.get_num_threads(), context)
    stack.callback(arm.close)
    return arm


def _rounds(arms: dict[str, Arm], prompt: TokenIds, options: BenchOptions) -> list[dict[str, Rates]]:
    names = list(arms)
    found = []
    for number in range(options.rounds + 1):
        turned = [*names[number % len(names) :], *names[: number % len(names)]]
        found.append({name: arms[name](prompt, options.new_tokens) for name in turned})
    return found[1:]  # the first warms up


def _row(name: str, rounds: list[dict[str, Rates]], note: str) -> BenchRow:
    def median(rate: Callable[[dict[str, Rates]], float]) -> float:
        return statistics.median(map(rate, rounds))

    return BenchRow(
        name=name,
        decode=median(lambda one: one[name].decode),
        decode_ratio=median(lambda one: one[name].decode / one[OURS].decode),
        prefill=median(lambda one: one[name].prefill),
        prefill_ratio=median(lambda one: one[name].prefill / one[OURS].prefill),
        decode_rounds=tuple(one[name].decode for one in rounds),
        prefill_rounds=tuple(one[name].prefill for one in rounds),
        note=note,
    )


def _limits(weights_bytes: dict[str, int]) -> list[BenchRow]:
    """Return what memory allows for decoding, and float32 products for prefill without attention."""
    bandwidth, products = read_bandwidth(), products_per_second()
    rows = []
    for weights, size in weights_bytes.items():
        note = f"{size / 1e6:,.0f} MB a token at {bandwidth / 1e9:.1f} GB/s"
        prefill = None
        if weights == "float32":
            prefill = products / (size / 4)
            note += f"; {products / 1e9:,.0f} G multiply-adds a second"
        rows.append(BenchRow(name=f"limit, {weights}", decode=bandwidth / size, prefill=prefill, note=note))
    return rows
