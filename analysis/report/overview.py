"""What the first screen says besides the headline: what ran on what, every method in a line, and gaps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.report.cells import Row
from analysis.report.compared_arms import Comparison
from analysis.report.headline import span_of
from analysis.report.sweep_section import Sweep
from analysis.results import Results
from analysis.stats import Estimate


@dataclass(frozen=True, slots=True)
class MethodLine:
    """The ranges of a method's cells."""

    name: str
    cells: int
    spans: tuple[str, ...]
    """Speedup of items and first tokens, change of accuracy, KL and reuse; empty where nothing is known."""


def method_lines(rows: Sequence[Row]) -> list[MethodLine]:
    """Return a line for each method that may reuse."""
    lines = []
    for name in dict.fromkeys(row.arm.method for row in rows if row.reuses):
        own = [row.arm for row in rows if row.arm.method == name]
        spans = (
            _span(own, lambda arm: arm.latency_gain, "x", 2),
            _span(own, lambda arm: arm.ttft_sum_gain, "x", 2),
            _span(own, lambda arm: arm.change, "", 1, "+"),
            _span(own, lambda arm: arm.kl, "", 3),
            _span(own, lambda arm: arm.turn_reuse, "", 0),
        )
        lines.append(MethodLine(name, len(own), spans))
    return lines


def what_ran(results: Results, merged: Sequence[tuple[str, list[tuple[str, list[str]]]]]) -> list[tuple[str, str]]:
    """Return names and values: models, work, hardware, time and commit."""
    trials, ok = results.trials, results.ok_trials
    values = {name: "; ".join(dict.fromkeys(value for value, _ in found)) for name, found in merged}
    gpus = values.get("GPUs", "unknown")
    cpu, cores = values.get("CPU", "unknown"), values.get("cores", "unknown")
    hardware = cpu if cores == "unknown" else f"{cpu}, {cores} cores"
    if gpus not in ("none", "unknown"):
        hardware = f"{gpus}; {hardware}"
    workloads = ", ".join(dict.fromkeys(str(name) for name in ok["workload"]))
    agents = sorted({int(count) for count in ok["agents"]})
    team = f"{agents[0]} to {agents[-1]} agents" if len(agents) > 1 else f"{agents[0]} agents" if agents else "none"
    seeds = ok["seed"].nunique()
    return [
        ("model", values.get("model", "unknown")),
        ("trials", f"{len(ok)} of {len(trials)} ended well, {seeds} {'seed' if seeds == 1 else 'seeds'}"),
        ("work", f"{workloads or 'none'}; {team}"),
        ("answers", f"{len(results.samples)} items, {len(results.turns)} turns"),
        ("hardware", hardware),
        ("ran", _day_span(values.get("ran", "unknown"))),
        ("commit", values.get("commit", "unknown")),
    ]


def merged_conditions(sweeps: Sequence[Sweep]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Return each condition once, with its values and the sweeps that have them."""
    found: dict[str, dict[str, list[str]]] = {}
    for sweep in sweeps:
        for name, value in sweep.conditions:
            found.setdefault(name, {}).setdefault(value, []).append(sweep.name)
    return [(name, list(values.items())) for name, values in found.items()]


def gaps_of(sweeps: Sequence[Sweep]) -> str:
    """Say in a sentence what failed, is missing or damaged; empty if nothing is."""
    failed = sum(len(sweep.progress.failed) for sweep in sweeps)
    missing = sum(n for sweep in sweeps for _, n in sweep.progress.not_run)
    damaged = sum(len(sweep.damage.damaged) + len(sweep.damage.incomplete) for sweep in sweeps)
    unknown = sum(sweep.plan_problem is not None for sweep in sweeps)
    parts = [
        f"{failed} failed" if failed else "",
        f"{missing} planned without a result" if missing else "",
        f"{damaged} with damaged files" if damaged else "",
    ]
    text = ", ".join(part for part in parts if part)
    more = f"Of {unknown} {'sweep' if unknown == 1 else 'sweeps'} the plan is unknown." if unknown else ""
    return " ".join(part for part in (f"Trials: {text}." if text else "", more) if part)


def _span(
    arms: Sequence[Comparison], of: Callable[[Comparison], Estimate | None], unit: str, digits: int, sign: str = ""
) -> str:
    return span_of([one.value for arm in arms if (one := of(arm)) is not None], unit, digits=digits, sign=sign)


def _day_span(text: str) -> str:
    """Shorten ``2026-01-02 03:04 to 2026-01-02 03:05 UTC; ...`` of several sweeps to its first and last day."""
    days = sorted({word for word in text.replace(";", " ").split() if word.count("-") == 2})
    return text if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
