"""The devices that trials ran on. Times of different devices are not comparable, so mixed ones are pointed out."""

import json
from collections import Counter
from dataclasses import dataclass

import pandas as pd
from rich.text import Text

from analysis.results import Results
from analysis.tables.shown import Shown


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A kind of device on which trials of a sweep ran."""

    sweep: str
    device: str
    """Name of the GPU, or of the CPU where no GPU was used; ``unknown`` if no record says it."""
    n_ok: int
    """Number of successful trials."""


def devices_of(trials: pd.DataFrame) -> pd.Series:
    """Return the kind of device of each trial, by the index of ``trials``."""
    names = [_kind(device, text) for device, text in zip(trials["device"], trials["env_json"], strict=True)]
    return pd.Series(names, index=trials.index, dtype=object)


def device_rows(results: Results) -> list[DeviceRow]:
    """Return the kinds of device of each sweep, the most used first."""
    ok = results.ok_trials
    counts = Counter(zip(ok["sweep"], devices_of(ok), strict=True))
    return [DeviceRow(sweep, device, n_ok) for (sweep, device), n_ok in counts.most_common()]


def show_devices(results: Results) -> Shown:
    """Return the devices, and a line for each sweep whose times are mixed."""
    rows = device_rows(results)
    lines = []
    for sweep in dict.fromkeys(row.sweep for row in rows):
        kinds = [row for row in rows if row.sweep == sweep]
        if len(kinds) > 1:
            counts = ", ".join(f"{row.device} ({row.n_ok} trial(s))" for row in kinds)
            lines.append(Text(f"{sweep}: times of different devices are mixed: {counts}; `accelerator` prevents that"))
    return Shown("devices", rows, lines)


def _kind(device: object, env_json: str) -> str:
    """Return the name without what tells apart equal devices of one machine, such as ``cuda:1``."""
    if not isinstance(device, str):
        return "unknown"
    if device == "cpu":
        return json.loads(env_json).get("cpu") or device
    names = (one.strip().partition(" ")[2] or one.strip() for one in device.split(","))
    return ", ".join(dict.fromkeys(names))
