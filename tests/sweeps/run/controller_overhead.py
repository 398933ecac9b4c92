"""What the controller costs: trials that do nothing, on many replicas, with Parquet and MLflow as in any sweep.

    python tests/sweeps/run/controller_overhead.py --trials 2000 --replicas 16

Prints, for each tenth of the sweep and per trial, wall time, CPU time of the controller's process and of the thread in
which its loop runs, and the process's memory. The wall time bounds the overhead from above: it includes the thread that
writes MLflow, Ray's own work and, on few cores, that of the replicas.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
from made_up import make_result
from rich.console import Console

from harness.spec import TrialSpec
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run.controller import run_on_ray
from sweeps.run.own_cluster import own_cluster
from sweeps.run.recorder import Recorder, recording

make = make_result.__wrapped__() if hasattr(make_result, "__wrapped__") else make_result


def run_trivially(make, spec, model, *, sweep, attempt, on_sample):
    """A trial that does nothing and has 12 samples of 3 turns."""
    on_sample(12, 12)
    return make(spec, sweep=sweep, attempt=attempt, samples=12)


def main() -> None:
    """Run the sweep and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--replicas", type=int, default=16)
    parser.add_argument("--no-mlflow", action="store_true", help="record Parquet alone")
    options = parser.parse_args()
    if options.no_mlflow:
        sys.modules["mlflow"] = None  # type: ignore[assignment]
    trials = tuple(
        TrialSpec(model="random:smollm2-135m", seed=seed, method=method)
        for seed in range(options.trials // 2)
        for method in ("dense", "kvcomm")
    )
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        settings = {"replicas": options.replicas, "cpus_per_replica": 1}
        began = time.perf_counter()
        plan = make_plan(SweepSpec(name="overhead", trials=trials, text="name: overhead\n", **settings), results)
        print(f"planned in {time.perf_counter() - began:.1f} s")
        marks = []

        @contextmanager
        def watched() -> Iterator[Recorder]:
            with recording(plan, results, Console(file=io.StringIO())) as recorder:
                ended = recorder.progress.attempt_ended

                def note(*arguments, **keywords):
                    ended(*arguments, **keywords)
                    memory = psutil.Process().memory_info().rss
                    marks.append((time.perf_counter(), time.process_time(), time.thread_time(), memory))

                recorder.progress.attempt_ended = note
                yield recorder

        with own_cluster(options.replicas):  # as many CPUs as there are replicas, whatever the machine has
            run_on_ray(plan, watched(), load=lambda name, dtype, weights: name, run=partial(run_trivially, make))
        show(marks)
        began = time.perf_counter()
        assert make_plan(plan.sweep, results).pending == ()
        print(f"planned again, all done, in {time.perf_counter() - began:.1f} s")


def show(marks: list[tuple[float, float, float, int]]) -> None:
    """A line per tenth of the sweep."""
    print(" trials  wall ms/trial  CPU ms/trial  loop ms/trial  memory MiB")
    tenth = max(1, len(marks) // 10)
    for last in range(tenth, len(marks), tenth):
        *times, _ = (end - start for start, end in zip(marks[last - tenth], marks[last], strict=True))
        wall, cpu, loop = (1000 * seconds / tenth for seconds in times)
        print(f"{last:7d}  {wall:13.1f}  {cpu:12.1f}  {loop:13.1f}  {marks[last][-1] / 2**20:10.0f}")


if __name__ == "__main__":
    main()
