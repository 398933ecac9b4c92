"""Tell whether times are comparable, by the kind of device that a trial ran on and by what else ran beside it."""

import json

import pandas as pd

QUIET = 0.1
"""Most cores that other processes may keep busy while times are taken: a system by itself takes about half of that."""


def devices_of(trials: pd.DataFrame) -> pd.Series:
    """Return the kind of device of each trial, by the index of ``trials``."""
    names = [kind_of_device(device, text) for device, text in zip(trials["device"], trials["env_json"], strict=True)]
    return pd.Series(names, index=trials.index, dtype=object)


def kind_of_device(device: object, env_json: str) -> str:
    """Return the kind of a trial's device: without what tells apart equal devices of one machine, as ``cuda:1``."""
    if not isinstance(device, str):
        return "unknown"
    if device == "cpu":
        return json.loads(env_json).get("cpu") or device
    names = (one.strip().partition(" ")[2] or one.strip() for one in device.split(","))
    return ", ".join(dict.fromkeys(names))


def others_cores(trials: pd.DataFrame) -> float | None:
    """Return the mean number of cores that other processes kept busy while trials ran; None if one does not know."""
    if trials.empty or trials["others_cpu_s"].isna().any():
        return None
    return float(trials["others_cpu_s"].sum() / (trials["ended_at"] - trials["started_at"]).dt.total_seconds().sum())
