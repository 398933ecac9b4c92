"""How many trials a second the controller can end, with far more replicas than fit: they are simulated, and sleep.

    PYTHONPATH=.:tests/support python tests/sweeps/run/controller_ceiling.py --replicas 1000 --trials 5000

The controller's loop, its queue, the merging of shards, Parquet, the status file and the display are the real ones. In
place of the actors stands a class with the same methods that keeps 1,000 clocks; Ray's own work is thus left out, and
``controller_overhead.py`` measures it with real actors. Trials take ``--seconds`` on average, so the replicas together
could end a thousand a second, and what ends is the controller's ceiling. The time that it takes to make up the results
is not the controller's, and is left out. MLflow, which another process writes, is off.
"""

import argparse
import dataclasses
import heapq
import io
import itertools
import random
import sys
import tempfile
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import psutil
from made_up import make_result
from rich.console import Console

from harness.spec import TrialSpec
from sweeps.language.sweep_spec import SweepSpec
from sweeps.plan.planning import make_plan
from sweeps.run import controller
from sweeps.run.placement import Stage
from sweeps.run.recorder import recording
from sweeps.run.replica_slots import Slot

MADE_S = [0.0]
"""Seconds that making up results took."""


class SleepingReplicas:
    """The interface of ``sweeps.run.replica_slots.Replicas``, with replicas that are clocks."""

    def __init__(self, stage, plan, _load, _run, _patience):
        self.slots = [Slot(index, actor=object(), ready=True) for index in range(stage.replicas)]
        self.lost_boards, self._plan = 0, plan
        self._due: list[tuple[float, int, Slot]] = []
        self._count, self._rng = itertools.count(), random.Random(0)
        self._templates = {}

    def give(self, slot, job):
        slot.job, slot.model, slot.began, slot.began_s = job, job.model, datetime.now(UTC), time.monotonic()
        slot.ref = job
        seconds = self._rng.uniform(0.5, 1.5) * OPTIONS.seconds
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), slot))

    def wait(self, timeout_s):
        if self._due and self._due[0][0] > time.monotonic():
            time.sleep(min(timeout_s, self._due[0][0] - time.monotonic()))
        ended = []
        while self._due and self._due[0][0] <= time.monotonic() and len(ended) < len(self.slots):
            ended.append(heapq.heappop(self._due)[2])
        return ended

    def result(self, job):
        """Make up the result of a job: 12 samples of 3 turns."""
        began = time.perf_counter()
        kind = job.spec.method
        if kind not in self._templates:
            self._templates[kind] = make_result.__wrapped__()(job.spec, sweep=self._plan.sweep.name, samples=12)
        like = self._templates[kind]
        own = make_result.__wrapped__()(job.spec, sweep=self._plan.sweep.name, attempt=job.attempt, samples=0)
        turns = [dataclasses.replace(turn, trial_id=job.trial_id) for turn in like.turns]
        samples = [dataclasses.replace(sample, trial_id=job.trial_id) for sample in like.samples]
        made = dataclasses.replace(own, turns=turns, samples=samples)
        MADE_S[0] += time.perf_counter() - began
        return made

    @property
    def busy(self):
        return [slot for slot in self.slots if slot.job is not None]

    def end_unneeded(self):
        for slot in self.slots:
            if slot.job is None:
                slot.actor, slot.ready = None, False

    def positions(self):
        return iter(())

    def stuck(self):
        return []

    def stop(self):
        """Nothing to end."""


def main() -> None:
    """Run the sweep and print a line per tenth."""
    trials = tuple(
        TrialSpec(model="random:smollm2-135m", seed=seed, method=method)
        for seed in range(OPTIONS.trials // 2)
        for method in ("dense", "kvcomm")
    )
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        sweep = SweepSpec(name="ceiling", trials=trials, text="name: ceiling\n", replicas=OPTIONS.replicas)
        began = time.perf_counter()
        plan = make_plan(sweep, results)
        print(f"planned in {time.perf_counter() - began:.1f} s")
        stage = Stage(trials, OPTIONS.replicas, cpus=1, gpus=0, threads=1, exclusive=False)
        controller.Replicas = SleepingReplicas
        loop = controller.Controller(plan, stage)
        controller.ray = SimpleNamespace(get=loop._replicas.result)
        marks = [(time.perf_counter(), 0.0, time.process_time())]
        with recording(plan, results, Console(file=io.StringIO())) as recorder:
            ended = recorder.progress.attempt_ended

            def note(*arguments, **keywords):
                ended(*arguments, **keywords)
                marks.append((time.perf_counter(), MADE_S[0], time.process_time()))

            recorder.progress.attempt_ended = note
            loop.run(recorder, nullcontext)
        print(" trials  trials/s  ms of CPU a trial")
        tenth = len(trials) // 10
        for last in range(tenth, len(marks), tenth):
            wall, made, cpu = (end - start for start, end in zip(marks[last - tenth], marks[last], strict=True))
            print(f"{last:7d}  {tenth / (wall - made):8.0f}  {1000 * (cpu - made) / tenth:17.1f}")
        memory = psutil.Process().memory_info().rss / 2**20
        files = sum(1 for _ in (results / "ceiling").glob("*/*.parquet"))
        print(f"{len(trials)} trials on {OPTIONS.replicas} replicas; memory {memory:.0f} MiB; {files} Parquet files")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0)
    OPTIONS = parser.parse_args()
    main()
