"""A sweep of short real trials, with helpers to run it as users do, kill parts of it and compare the results."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
from tiny_models import tiny_chat_model

from harness.results.arrow_schemas import SCHEMAS
from harness.results.sweep_folder import read_attempts, read_records, read_trials
from sweeps.status.running_file import read_running

ROOT = Path(__file__).resolve().parents[2]

SWEEP = """
name: chaos
model: {model}
replicas: 3
cpus_per_replica: 1
gpus_per_replica: 0
workload: {{name: recall, limit: {items}}}
agents: 2
max_new_tokens: 24
checkpoint_minutes: 0.0001
grid:
  seed: {seeds}
  shards: [1, 2]
  method: [dense, prefix, naive, cacheblend, kvcomm]
"""


def write_sweep(folder: Path, *, trials: int, items: int) -> Path:
    """Write a sweep file with so many trials, and a two-layer model beside it. Each batch ends with a checkpoint."""
    path = folder / "sweep.yaml"
    path.write_text(SWEEP.format(model=write_model(folder), items=items, seeds=list(range(trials // 10))))
    return path


def write_model(folder: Path) -> Path:
    """Write a two-layer model that loads in no time, and return its folder."""
    model = tiny_chat_model()
    model.network.generation_config.eos_token_id = model.tokenizer.eos_token_id
    model.network.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def start(
    sweep: Path, results: Path, *options: str, address: str | None = None, **variables: str
) -> subprocess.Popen[bytes]:
    """Start ``kvcomm run`` as a process with these ``variables``; on a cluster if ``address`` is given."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    }
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    if address is not None:
        environment["RAY_ADDRESS"] = address
    # MLflow would take longer than the trials, and has its own tests.
    code = "import sys; sys.modules['mlflow'] = None; from sweeps.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(sweep), "--results", str(results), *options]
    with (results.parent / f"{results.name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            cwd=results.parent,
            preexec_fn=_hear_interrupts,
        )


def _hear_interrupts() -> None:
    """Restore SIGINT, which tests in the background of a shell ignore and which their processes would ignore too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(happened: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
    """Check the condition ten times a second; fail if it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not after {timeout_s:g} s"
        time.sleep(0.1)


def n_finished(results: Path) -> int:
    """Count the trials with a row, judging by file names."""
    return len({path.name.split("-")[0] for path in (results / "chaos" / "trials").glob("*.parquet")})


def is_at_work(controller: subprocess.Popen[bytes], results: Path) -> bool:
    """Return whether the controller has the lock and says so."""
    running = read_running(results / "chaos")
    return running is not None and running.pid == controller.pid


def kill(process: subprocess.Popen[bytes], how: signal.Signals) -> int:
    """Send a signal to a controller, wait for its end and return its exit code."""
    process.send_signal(how)
    return process.wait(60)


def replica_processes(raylets: list[int]) -> list[psutil.Process]:
    """Return the replica processes on the nodes with these raylets."""
    found = []
    for pid in raylets:
        try:
            children = psutil.Process(pid).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        for child in children:
            try:
                if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::Replica"):
                    found.append(child)
            except psutil.Error:
                continue
    return found


def varies(column: str) -> bool:
    """Return whether a column may differ between two runs of a trial: its time, place, speed, attempts or memory."""
    named = (
        "attempt",
        "resumed_from",
        "exclusive",
        "started_at",
        "started_us",
        "ended_at",
        "host",
        "device",
        "env_json",
        "git_commit",
        "git_dirty",
    )
    return column in named or column.endswith("_s") or column.startswith(("memory_", "load_average_"))


def rows_of(results: Path) -> dict[str, pa.Table]:
    """Return all rows of the finished attempts, one attempt per trial, in trial order and without varying columns."""
    folder = results / "chaos"
    finished = {trial_id: attempt.finished for trial_id, attempt in read_attempts(folder).items()}
    assert None not in finished.values(), "a trial without a finished attempt"
    names = [f"{trial_id}-{attempt}" for trial_id, attempt in sorted(finished.items())]
    tables = {table: read_records(folder, table, names) for table in SCHEMAS if table != "trials"}
    counted = [
        row
        for row in read_trials(folder).sort_by("trial_id").to_pylist()
        if row["attempt"] == finished[row["trial_id"]]
    ]
    tables["trials"] = pa.Table.from_pylist(counted, schema=read_trials(folder).schema)
    return {
        name: table.select([column for column in table.column_names if not varies(column)])
        for name, table in tables.items()
    }
