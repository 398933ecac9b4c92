"""The devices that trials ran on. Mixed ones are pointed out, since their times are not comparable."""

from collections import Counter
from dataclasses import dataclass

from rich.text import Text

from analysis.devices import devices_of
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
