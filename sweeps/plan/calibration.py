"""A quick measurement of a model's rates on this machine, for plans without earlier trials of that model."""

from collections.abc import Iterable
from dataclasses import replace

from sweeps.plan.rates import ModelRates, Rates, fit, this_device

_LENGTHS = (128, 512)
"""Lengths of the prefilled prompts, in tokens."""
_STEPS = 8
_REPEATS = 2


def calibrated(known: Rates, models: Iterable[str], threads: int) -> Rates:
    """Return ``known`` with measured rates for each model that has none on a device like this machine's.

    The answer lengths and method shares of such a model's trials on other devices still count. ``threads`` is the
    number per operation if the model runs on the CPU. Raises ``kvcomm_core.models.model_source.ModelError``.
    """
    rates = dict(known.models)
    for model in models:
        earlier = rates.get(model, ())
        if any(one.device == this_device() for one in earlier):
            continue
        measured = measure(model, threads)
        for one in earlier[:1]:
            measured = replace(measured, shares=one.shares, answer_tokens=one.answer_tokens)
        rates[model] = (*earlier, measured)
    return Rates(rates, known.unit_s)


def measure(model: str, threads: int) -> ModelRates:
    """Load a model and time some prefills and decoding steps. Raises ``kvcomm_core.models.model_source.ModelError``."""
    import torch

    from kvcomm_core.decode import advance, decode_greedily, to_logits
    from kvcomm_core.kv import KVBuffer
    from kvcomm_core.models.loading import load_model
    from kvcomm_core.timing import Stopwatch

    torch.set_num_threads(threads)
    loaded = load_model(model)
    prefills: list[tuple[int, float]] = []
    steps: list[float] = []
    for repeat in range(_REPEATS + 1):  # the first repeat includes set-up
        for length in _LENGTHS:
            ids = [index % 1000 for index in range(length)]
            buffer = KVBuffer(loaded.layout, rows=1, capacity=length + _STEPS + 1)
            watch = Stopwatch(loaded.device)
            first_ids = to_logits(loaded, advance(loaded, [tuple(ids)], buffer)).argmax(dim=-1).tolist()
            prefill_s = watch.seconds()
            watch = Stopwatch(loaded.device)
            decode_greedily(
                loaded, first_ids, buffer, positions=[length], visible_BC=None, max_new_tokens=_STEPS + 1, eos_ids=()
            )
            if repeat:
                prefills.append((length, prefill_s))
                steps.append(watch.seconds() / _STEPS)
    token_s, token_pair_s = fit(prefills)
    return ModelRates(
        device=this_device(),
        threads=threads if loaded.device.type == "cpu" else None,
        source="a measurement just now",
        token_s=token_s,
        token_pair_s=token_pair_s,
        longest=max(_LENGTHS),
        step_s=sorted(steps)[len(steps) // 2],
    )
