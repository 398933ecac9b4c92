"""Reading a log: its calls, in the order of the file or by time.

Memory does not grow with the file, except for logs that hold only what is new in each call (``message_mode: delta``),
whose conversations are kept.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path

from harness.traces.call import BlockCall, Call, TraceError, refusal
from harness.traces.forms import Histories, calls_of, time_of
from harness.traces.lines import Record, object_at, opened, read_objects

MOST_NAMED = 50
"""Maximum number of agents that are named after their system prompts; the others share a name."""


def read_calls(path: Path, *, by_time: bool = False) -> Iterator[Call | BlockCall]:
    """Yield the calls of a log, at least one. ``by_time`` sorts them by their times, which takes a second reading.

    Raise ``TraceError`` naming file, line and field.
    """
    histories: Histories = {}
    agents = _Agents()
    none = True
    for record in _sorted(path) if by_time else read_objects(path):
        for call in calls_of(record, histories, agents.name):
            none = False
            yield call
    if none:
        raise TraceError(f"{path}: holds no calls; allowed: one JSON object per line, at least one")


class _Agents:
    """Names of agents that the log does not name."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {hash(""): "agent"}

    def name(self, system: str) -> str:
        """Return the name of the agent with this system prompt."""
        key = hash(system)
        if key not in self._names and len(self._names) <= MOST_NAMED:
            self._names[key] = f"system prompt {len(self._names)}"
        return self._names.get(key, "other system prompts")


def _sorted(path: Path) -> Iterator[Record]:
    """Yield the objects of a log by time; those of one time in the order of the file."""
    if path.suffix == ".gz":
        raise TraceError(f"{path}: is gzipped; allowed: a plain file, to be sorted by time")
    times, offsets, numbers = array("d"), array("q"), array("q")
    for record in read_objects(path):
        time = time_of(record.fields)
        if time is None:
            raise refusal(record.place, "timestamp", record.fields.get("timestamp"), "a number or an ISO 8601 time")
        if record.offset is None:
            raise TraceError(f"{path}: one JSON document; allowed: an object per line, to be sorted by time")
        times.append(time)
        offsets.append(record.offset)
        numbers.append(int(record.place.rpartition(" ")[2]))
    with opened(path) as file:
        for index in sorted(range(len(times)), key=times.__getitem__):
            yield Record(f"{path} line {numbers[index]}", object_at(file, offsets[index]), offsets[index])
