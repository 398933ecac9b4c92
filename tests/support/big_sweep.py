"""A finished sweep of as many trials as wanted, made up, to measure and test what reads and writes results.

    PYTHONPATH=.:tests/support python -m big_sweep RESULTS --repeats 200

writes 100 cells with so many seeds each, 12 samples of 2 to 5 turns per trial, and prints what writing costs. Times,
answers and reuse differ among turns, as those of real trials do. With 200 seeds these are 20,000 trials and 840,000
turns. `time kvcomm status RESULTS` and others then measure the readers.
"""

import argparse
import dataclasses
import random
import time
from datetime import timedelta
from pathlib import Path

from made_up import MakeResult, make_result

from harness.results.results_writer import ResultsWriter
from harness.results.summary import with_metrics
from harness.results.trial_result import TrialResult
from harness.spec import TrialSpec
from sweeps.language.sweep_spec import load_sweep

SWEEP = """\
name: big
model: random:smollm2-135m
workload: {{name: recall, limit: {samples}}}
repeats: {repeats}
grid:
  agents: [2, 3, 4, 5]
  max_new_tokens: [16, 32, 48, 64, 80]
  method: [dense, kvcomm]
  kvcomm.gamma: [0.1, 0.2, 0.3, 0.4]
"""


def made(spec: TrialSpec, number: int, make: MakeResult, samples: int) -> TrialResult:
    """Return the result of the trial that ended as the ``number``-th, with times and answers of its own."""
    rng = random.Random(number)
    result = make(spec, sweep="big", samples=samples)
    turns = [
        dataclasses.replace(
            turn,
            ttft_s=(ttft_s := turn.ttft_s * rng.uniform(0.8, 1.25)),
            ttft_paper_s=ttft_s,
            decode_s=rng.uniform(0.5, 1.5),
            prompt_sha256=f"{rng.getrandbits(256):064x}",
            outcome=(outcome := rng.choice(["correct", "wrong"])),
        )
        for turn in result.turns
    ]
    graded = [dataclasses.replace(one, outcome=outcome, latency_s=rng.uniform(1, 3)) for one in result.samples]
    began = result.trial.started_at + timedelta(seconds=number)
    row = dataclasses.replace(result.trial, started_at=began, ended_at=began + timedelta(seconds=rng.uniform(30, 60)))
    return TrialResult(with_metrics(row, turns, graded, None, None), turns, graded)


def write_big_sweep(results: Path, *, repeats: int, samples: int, make: MakeResult) -> tuple[int, float, float]:
    """Write the sweep. Return its trials, and the wall and CPU seconds of the writer."""
    writer = ResultsWriter(results, "big")
    wall_s = cpu_s = 0.0
    writer.write_text("sweep.yaml", SWEEP.format(repeats=repeats, samples=samples))
    trials = load_sweep(writer.folder / "sweep.yaml").trials
    for number, spec in enumerate(trials):
        result = made(spec, number, make, samples)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        writer.write(result)
        wall_s, cpu_s = wall_s + time.perf_counter() - began_s, cpu_s + time.process_time() - began_cpu_s
    writer.close()
    return len(trials), wall_s, cpu_s


def main() -> None:
    """Write the sweep and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--samples", type=int, default=12)
    options = parser.parse_args()
    trials, wall_s, cpu_s = write_big_sweep(
        options.results, repeats=options.repeats, samples=options.samples, make=make_result.__wrapped__()
    )
    files = [path for path in (options.results / "big").glob("*/*.parquet")]
    size = sum(path.stat().st_size for path in files)
    print(
        f"{trials} trials in {len(files)} files of {size / 2**20:.0f} MiB; "
        f"the writer took {1000 * wall_s / trials:.2f} ms a trial, {1000 * cpu_s / trials:.2f} ms of CPU"
    )


if __name__ == "__main__":
    main()
