"""The page of a check: one table per step, in Markdown."""

from collections.abc import Iterator, Sequence
from typing import Any


def render_page(report: dict[str, Any]) -> str:
    """Return the page of a report, which is the content of the JSON file beside it."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    environment = report["environment"]
    commit = (environment["git_commit"] or "unknown")[:7] + (" with changes" if environment["git_dirty"] else "")
    yield f"# GPU check of {report['model']}"
    yield ""
    if report["device"] != "cuda":
        yield "**On a CPU, with a tiny model: this shows that the check runs, and nothing about a GPU.**"
        yield ""
    yield f"Commit {commit}, {report['made_at']}, {report['seconds']:.0f} s in all. Times are medians in ms. *Roof* is"
    yield "the least that the machine allows, by rates measured in the same process; *of roof* is roof / time."
    for step in report["steps"]:
        yield from _step(step)


def _step(step: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {step['title']}"
    yield ""
    yield f"{step['status']}, {step['seconds']:.0f} s of at most {step['limit_s']:.0f}"
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("machine", "note", "figure", "test")}
    for line in step["found"]:
        by_kind[line["kind"]].append(line)
    for machine in by_kind["machine"]:
        yield ""
        yield _machine(machine)
    for note in by_kind["note"]:
        yield ""
        yield note["text"]
    if by_kind["figure"]:
        yield ""
        yield from _table(
            ("", "ms", "roof", "of roof", "bound by", "aim", ""), [_figure(figure) for figure in by_kind["figure"]]
        )
    if by_kind["test"]:
        yield ""
        tests = [(test["name"], test["outcome"], test["reason"]) for test in by_kind["test"]]
        yield from _table(("test", "", "why"), tests)
    if step["reason"]:
        yield ""
        yield from ("    " + line for line in step["reason"].splitlines())


def _machine(machine: dict[str, Any]) -> str:
    link = machine["host_bytes_per_s"]
    rates = [
        f"memory {machine['bytes_per_s'] / 1e9:,.0f} GB/s",
        f"products {machine['flops_per_s'] / 1e12:,.1f} TFLOP/s in {machine['dtype'].removeprefix('torch.')}",
        *([] if link is None else [f"link to the host {link / 1e9:,.1f} GB/s"]),
    ]
    versions = [f"{name} {machine[name]}" for name in ("cuda", "torch", "transformers", "triton") if machine[name]]
    return f"{machine['device']}: {', '.join(rates)}; {', '.join(versions)}; decoding: {machine['decoding']}"


def _figure(figure: dict[str, Any]) -> tuple[str, ...]:
    roof_s, aim_s = figure["roof_s"], figure["aim_s"]
    return (
        figure["name"],
        _milliseconds(figure["seconds"]),
        "-" if roof_s is None else _milliseconds(roof_s),
        "-" if roof_s is None else f"{roof_s / figure['seconds']:.0%}",
        figure["bound"] or "-",
        "" if aim_s is None else f"{_milliseconds(aim_s)}, {'met' if figure['seconds'] <= aim_s else 'missed'}",
        figure["note"],
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
