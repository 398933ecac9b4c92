"""Seconds of a decoding step, by batch and by what runs the step."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from kvcomm_core.decode import advance, decode_greedily
from kvcomm_core.gpu.captured_steps import CAPTURE, REFUSED
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from sweeps.gpu_check.figures import Figure, FigureFile
from sweeps.gpu_check.roofs import ModelRoofs, synchronise

BATCHES = (1, 8, 32)
PROMPT_TOKENS, NEW_TOKENS = 1024, 33
ROUNDS = 3
AIM_S = 0.008
"""The aim for a step at batch 1."""


def decode(model: LoadedModel, roofs: ModelRoofs, file: FigureFile, shrink: int) -> None:
    """Time the steps of answers that follow ``PROMPT_TOKENS / shrink`` tokens, in batches, by every way that the model
    has of running a step."""
    prompt = max(2, PROMPT_TOKENS // shrink)
    arms = {"transformers": replace(model, step=None)}
    if model.step is None:
        file.note(f"no fused step here: decoding is {model.decoding}")
    else:
        arms["fused step"] = model
        if model.device.type in CAPTURE:
            arms["graph"] = model
    for rows in BATCHES:
        buffer = KVBuffer(model.layout, rows, prompt + NEW_TOKENS)  # a graph is captured for the place of its KV
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(ROUNDS + 1):
            for name, arm in arms.items():
                with nullcontext() if name == "graph" else no_graphs():
                    seconds = seconds_per_step(arm, buffer, prompt)
                if number:  # the first warms up
                    times[name].append(seconds)
        for name, seconds_of_rounds in times.items():
            roof_s, bound = roofs.step(rows, prompt)
            file.figure(
                Figure(
                    name=f"{name}, batch {rows}, after {prompt:,} tokens",
                    seconds=statistics.median(seconds_of_rounds),
                    samples=ROUNDS,
                    roof_s=roof_s,
                    bound=bound,
                    aim_s=AIM_S if rows == 1 and shrink == 1 and name == "graph" else None,
                )
            )
    if model.step is not None and REFUSED in model.step.captured:
        file.note(f"the rows named graph ran without one: {model.step.captured[REFUSED]}")


@contextmanager
def no_graphs() -> Iterator[None]:
    """Let decoding capture nothing within the block."""
    capture = dict(CAPTURE)
    CAPTURE.clear()
    try:
        yield
    finally:
        CAPTURE.update(capture)


def seconds_per_step(model: LoadedModel, buffer: KVBuffer, prompt: int) -> float:
    """Return the seconds of one step: those of an answer in every row of a buffer, its first token apart, by its
    steps."""
    rows = buffer.rows
    # The prompts are prefilled for nothing but their KV; 8 rows at a time take little memory for activations.
    for first in range(0, rows, 8):
        part = KVBuffer.within(buffer, slice(first, min(first + 8, rows)), buffer.capacity)
        advance(model, [tuple(range(1, prompt + 1))] * part.rows, part)
    buffer.length = prompt
    synchronise(model.device)
    start = time.perf_counter()
    decode_greedily(
        model,
        [1] * rows,
        buffer,
        positions=[prompt] * rows,
        visible_BC=None,
        max_new_tokens=NEW_TOKENS,
        eos_ids=(),
    )
    return (time.perf_counter() - start) / (NEW_TOKENS - 1)
