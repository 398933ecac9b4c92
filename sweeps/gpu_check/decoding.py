"""Seconds of a decoding step, by batch and by what runs the step."""

import statistics
import time
from dataclasses import replace

from kvcomm_core.decode import advance, decode_greedily
from kvcomm_core.kv import KVBuffer
from kvcomm_core.models.loading import LoadedModel
from sweeps.gpu_check.figures import Figure, FigureFile
from sweeps.gpu_check.roofs import ModelRoofs

BATCHES = (1, 8, 32)
PROMPT_TOKENS, NEW_TOKENS = 1024, 33
ROUNDS = 3
AIM_S = 0.008
"""Of a step at batch 1."""


def decode(model: LoadedModel, roofs: ModelRoofs, file: FigureFile, shrink: int) -> None:
    """Time the steps of answers that follow ``PROMPT_TOKENS / shrink`` tokens, in batches, by every way that the model
    has of running a step."""
    prompt = max(2, PROMPT_TOKENS // shrink)
    arms = {"transformers": replace(model, step=None)}
    if model.step is not None:
        arms["fused step"] = model
    else:
        file.note(f"no fused step here: decoding is {model.decoding}")
    for rows in BATCHES:
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(ROUNDS + 1):
            for name, arm in arms.items():
                seconds = seconds_per_step(arm, rows, prompt)
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
                    aim_s=AIM_S if rows == 1 and shrink == 1 and name != "transformers" else None,
                )
            )


def seconds_per_step(model: LoadedModel, rows: int, prompt: int) -> float:
    """Return the seconds of one step: those of an answer, its first token apart, by its steps."""
    buffer = KVBuffer(model.layout, rows, prompt + NEW_TOKENS)
    # The prompts are prefilled for nothing but their KV; 8 rows at a time take little memory for activations.
    for first in range(0, rows, 8):
        part = KVBuffer.within(buffer, slice(first, min(first + 8, rows)), buffer.capacity)
        advance(model, [tuple(range(1, prompt + 1))] * part.rows, part)
    buffer.length = prompt
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
