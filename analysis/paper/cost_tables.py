"""The paper's tables of time and memory: 2, 3, A.5 and A.6."""

from collections.abc import Mapping

from analysis import measures
from analysis.arms import Arm
from analysis.measures import Measure
from analysis.paper.filling import fill
from analysis.paper.printed_numbers import Place
from analysis.paper.table_cells import Where, graded, timed
from analysis.paper.table_rows import PaperTable
from analysis.results import Results
from analysis.stats import Estimate

_OF_AGENT: dict[str, Measure] = {
    "dense": measures.dense_ttft,
    "alignment": measures.alignment,
    "first_forward": measures.first_forward,
    "other": measures.other,
    "speedup": measures.speedup,
    "over_prefix": measures.speedup_over_prefix,
}
_OF_ALL: dict[str, Measure] = {
    "dense": measures.dense_ttft_sum,
    "alignment": measures.phase_sum("blend"),
    "first_forward": measures.phase_sum("prefill"),
    "other": measures.rest_sum,
    "speedup": measures.ttft_sum_speedup,
    "over_prefix": measures.ttft_sum_over_prefix,
}


def table_2(results: Results) -> list[PaperTable]:
    """Return the TTFT of each agent and of all, its parts and its speedups."""
    lengths = {"prefix_tokens": 512, "input_tokens": 1024, "output_tokens": 512, "anchors": 20}

    def measured(place: Place) -> Mapping[str, Measure]:
        if place["agent"] == "all":
            return _OF_ALL
        return {name: _of_agent(measure, int(place["agent"])) for name, measure in _OF_AGENT.items()}

    return fill(results, "2", lambda _: timed("ttft", 5, lengths=lengths), measured)


def table_3(results: Results) -> list[PaperTable]:
    """Return the mean speedup over three agents by answer and prefix length."""

    def where(place: Place) -> Where:
        return timed("ttft", 3, lengths={"input_tokens": 1024, "anchors": 20, **place})

    return fill(results, "3", where, lambda _: {"speedup": measures.mean_speedup})


def table_a5(results: Results) -> list[PaperTable]:
    """Return the latency of the softmax over anchors, by tokens and anchors."""
    softmax = measures.probe_milliseconds("match")
    return fill(results, "A.5", lambda place: timed("blend", lengths=place), lambda _: {"softmax": softmax})


def table_a6(results: Results) -> list[PaperTable]:
    """Return accuracy, reuse, memory and times with anchors in host memory."""
    measured: dict[str, Measure] = {
        "accuracy": measures.accuracy,
        "reuse_rate": measures.turn_reuse,
        "memory": measures.pool_gigabytes,
        "softmax": measures.matching,
        "offload": measures.not_measured,
    }

    def where(place: Place) -> Where:
        return graded("mmlu", int(place["agents"]), "kvcomm", placement="host")

    return fill(results, "A.6", where, lambda _: measured)


def _of_agent(measure: Measure, agent: int) -> Measure:
    def of_agent(arm: Arm) -> Estimate | None:
        return measure(arm.of_agent(agent))

    return of_agent
