"""The memory that a replica needs for a trial, forecast from the model's configuration and the trial's prompts.

    weights       parameters by dtype, or by the bits of quantised weights; with ``weights: int8`` by dtype, too, since
                  they are quantised after they are loaded
    KV            one batch of the longest prompts with their answers
    pools         the most anchors that the trial can make, each with the prompts that read it
    margin        a forward pass over the longest prompts, and on a CPU the libraries

Weights and KV are known to within a few per cent. The pools are an upper bound, and the margin is a rule of thumb, so
only weights and KV decide that a trial surely does not fit.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import psutil

from harness.environment import gpu_names
from harness.spec import TrialSpec
from harness.workloads import Item
from harness.workloads.base import ExpectedTurns, Work
from kvcomm_core.config import KVCommConfig
from kvcomm_core.models.model_config import kv_sizes
from kvcomm_core.models.model_source import model_config
from kvcomm_core.models.size import weight_bytes
from sweeps.language.strict_yaml import SweepError

_LIBRARIES = 500_000_000
"""Bytes of a process with torch and transformers, before it loads a model."""
_ITEMSIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that a replica needs for one trial."""

    weights_bytes: int
    kv_bytes: int
    """The engine's buffer."""
    pools_bytes: int
    """Anchor pools, from above; those in host memory are not counted on a GPU."""
    margin_bytes: int
    """Activations, and the libraries on a CPU."""

    @property
    def surely_bytes(self) -> int:
        """The part that the trial cannot do without."""
        return self.weights_bytes + self.kv_bytes

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.surely_bytes + self.pools_bytes + self.margin_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The memory of this machine that a replica would use."""

    name: str
    """``CPU`` or ``GPU``; several GPUs count together, since a model may be spread over them."""
    free_bytes: int | None
    """None if unknown."""


UNKNOWN = Device(name="CPU", free_bytes=None)
"""A machine that nobody has asked."""


@cache
def this_device() -> Device:
    """Return the memory that is free here now: of all GPUs, as NVIDIA's driver reports it, or of the CPU."""
    if not gpu_names():
        return Device(name="CPU", free_bytes=psutil.virtual_memory().available)
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
        return Device(name="GPU", free_bytes=sum(int(line) for line in found.split()) * 1024**2)
    except (OSError, ValueError, subprocess.SubprocessError):
        return Device(name="GPU", free_bytes=None)


def forecast(trial: TrialSpec, items: list[Item], *, on_gpu: bool) -> Memory | None:
    """Return the memory of a trial on these items; None where it takes no turns, whose memory is unknown."""
    work = trial.workload.work(trial, items)
    if not work.turns or not trial.workload.needs_weights:
        return None
    config = model_config(trial.model)
    itemsize = _ITEMSIZES[("bfloat16" if on_gpu else "float32") if trial.dtype == "auto" else trial.dtype]
    layers, heads, head_dim = kv_sizes(config)
    per_token = 2 * layers * heads * head_dim * itemsize
    rows = trial.batch_size
    prompt = max(map(_prompt, work.turns))
    kv_tokens = rows * max(_prompt(turn) + turn.output_tokens for turn in work.turns)
    widest = 4 * config["hidden_size"] + 3 * config.get("intermediate_size", 4 * config["hidden_size"])
    activations = rows * (prompt * widest * itemsize + 4 * config.get("vocab_size", 0))
    return Memory(
        weights_bytes=weight_bytes(config, itemsize),
        kv_bytes=round(kv_tokens * per_token),
        pools_bytes=_pools(trial, work, len(items), per_token, itemsize, head_dim, on_gpu=on_gpu),
        margin_bytes=round(activations) + (0 if on_gpu else _LIBRARIES),
    )


def check_memory(trials: Iterable[TrialSpec], memory: dict[str, Memory], device: Device) -> None:
    """Raise ``SweepError`` for the first trial whose weights and KV surely do not fit ``device``."""
    for trial in trials:
        need = memory.get(trial.trial_id)
        if need is not None and (reason := does_not_fit(trial, need, device)):
            raise SweepError(reason)


def does_not_fit(trial: TrialSpec, need: Memory, device: Device) -> str | None:
    """Return one line that says why a trial surely does not fit, and what would help; None if it may fit."""
    if device.free_bytes is None or need.surely_bytes <= device.free_bytes:
        return None
    smaller = "a smaller model" if trial.dtype in ("bfloat16", "float16") else "dtype bfloat16, a smaller model"
    batch = "" if trial.batch_size == 1 else f", batch_size below {trial.batch_size}"
    return (
        f"model is {trial.model!r}; a replica needs {gb(need.surely_bytes)} (weights {gb(need.weights_bytes)}, KV "
        f"{gb(need.kv_bytes)}); allowed: the {gb(device.free_bytes)} that are free on this machine's {device.name}; "
        f"{smaller}{batch} or a larger machine would help"
    )


def gb(size: int) -> str:
    """Return bytes as text, in units of 10**9."""
    return f"{size / 1e9:,.2f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"


def _prompt(turn: ExpectedTurns) -> float:
    return turn.prompt_tokens + turn.answers_read * turn.output_tokens


def _pools(
    trial: TrialSpec, work: Work, items: int, per_token: int, itemsize: int, head_dim: int, *, on_gpu: bool
) -> int:
    config = trial.parameters
    if not isinstance(config, KVCommConfig) or (on_gpu and config.placement == "host"):
        return 0
    own = [turn for turn in work.turns if turn.arm == trial.method]
    # Each template's holes, with the texts after them, make up its prompt but for the leading text.
    offsets = sum(_prompt(turn) for turn in own)
    samples = max((turn.prompt_tokens for turn in own), default=0.0) + sum(turn.output_tokens for turn in own)
    in_float32 = per_token * 4 / itemsize
    if config.estimator == "mean":
        return round(offsets * in_float32)
    if config.estimator == "affine":  # by slot: three sums over tokens, and three matrices for each head
        slots = sum(1 + turn.answers_read for turn in own)
        return round(3 * in_float32 * (offsets + slots * head_dim))
    anchors = config.max_anchors if trial.workload.timing else min(config.max_anchors, items * trial.rounds)
    stored = 1 / itemsize if config.storage == "int8" else 1.0
    # Base KV in the model's dtype, or base values alone in 16 bits.
    kept = 0.0 if not config.compares_samples else 1.0 if config.compares_keys else 1 / itemsize
    most = anchors * per_token * (offsets * stored + samples * kept)
    budget = config.pool_bytes
    return round(most if budget is None else min(most, budget * (trial.agents + 1)))
