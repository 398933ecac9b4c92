"""Which trials belong together: the keys by which their turns and answers are paired."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from analysis.kinds import kind_of
from harness.cells import method_fields
from harness.topology import depends_on_seed


def pair_of(trial_id: str, spec: dict[str, Any], device: str) -> str:
    """Return a key that a trial shares with those whose turns are paired with its own.

    Times of different devices say nothing about methods, so turns are paired on one kind of device alone.
    """
    return f"{_pair(spec, trial_id)} {device}"


def _pair(spec: dict[str, Any], trial_id: str) -> str:
    """Return a key that a trial shares with its dense counterpart."""
    if kind_of(spec["workload"]["name"]).timing:
        return trial_id
    own = method_fields(spec)
    # A field that is null means the same as none, as in the records of versions that did not know it.
    given = {key: value for key, value in spec.items() if key not in own and value is not None}
    return json.dumps(given, sort_keys=True)


def answering_of(spec: dict[str, Any]) -> str:
    """Return a key that a trial shares with the dense trials that give the same answers to the same items."""
    workload = {key: value for key, value in spec["workload"].items() if key != "order"}
    seed = spec["seed"] if depends_on_seed(spec["topology"]) else None
    return _pair({**spec, "workload": workload, "seed": seed}, "")


def numbered(keys: Mapping[str, str]) -> dict[str, int]:
    """Return a number in place of each trial's key: the same one for the same key, in other results, too."""
    return {one: int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], signed=True) for one, key in keys.items()}
