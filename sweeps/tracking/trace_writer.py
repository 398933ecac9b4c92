"""The writing of traces: MLflow's entities for the contents that ``trace_view`` defines."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.tracking.trace_view import SpanView, TraceView

if TYPE_CHECKING:
    from mlflow.entities import Assessment, Span, TraceInfo

SOURCE_RUN = "mlflow.sourceRun"
"""Key under which a trace names its run."""

_PREVIEW = 1000
"""The most characters of a question or an answer in the list of traces."""
_AT_ONCE = 20
"""Traces whose spans are written together."""


class TraceWriter:
    """Writes traces into one experiment. Writing the same trace again changes nothing."""

    def __init__(self, uri: str, experiment: str) -> None:
        """Connect to the tracking server or database at ``uri``. Raises whatever MLflow raises."""
        from mlflow.tracing.client import TracingClient

        self._client, self._experiment = TracingClient(uri), experiment

    def write(self, run_id: str, traces: Sequence[TraceView]) -> None:
        """Write the traces of a run."""
        for start in range(0, len(traces), _AT_ONCE):
            some = traces[start : start + _AT_ONCE]
            for trace in some:
                self._client.start_trace(self._info(run_id, trace))
            self._client.log_spans(self._experiment, [span for trace in some for span in _spans(trace)])

    def _info(self, run_id: str, trace: TraceView) -> "TraceInfo":
        from mlflow.entities import TraceInfo, TraceLocation, TraceState

        return TraceInfo(
            trace_id=f"tr-{trace.trace_id}",
            trace_location=TraceLocation.from_experiment_id(self._experiment),
            request_time=trace.root.start_ns // 1_000_000,
            execution_duration=(trace.root.end_ns - trace.root.start_ns) // 1_000_000,
            state=TraceState.OK,
            request_preview=(trace.question or "")[:_PREVIEW],
            response_preview=trace.answer[:_PREVIEW],
            trace_metadata={SOURCE_RUN: run_id},
            tags={**trace.tags, "mlflow.traceName": trace.root.name},
            assessments=list(_assessments(trace)),
        )


def _assessments(trace: TraceView) -> "Iterator[Assessment]":
    from mlflow.entities import AssessmentSource, Expectation, Feedback

    moment = trace.root.end_ns // 1_000_000
    grader = AssessmentSource(source_type="CODE", source_id=f"kvcomm, rule {trace.grade_rule}")
    if trace.correct is None:
        return
    feedback = Feedback(name="correct", value=trace.correct, source=grader)
    expectation = Expectation(name="expected_response", value=trace.expected, source=grader)
    one: Assessment
    for one in (feedback, expectation):
        one.create_time_ms = one.last_update_time_ms = moment
        one.assessment_id = f"a-{trace.trace_id}-{one.name[0]}"  # our own, so that another sync writes no second one
        yield one


def _spans(trace: TraceView) -> "Iterator[Span]":
    """Yield the spans of a trace, parents first. Span ids count from 1."""
    from mlflow.entities import Span

    number = 0
    waiting: list[tuple[SpanView, str | None]] = [(trace.root, None)]
    while waiting:
        view, parent = waiting.pop(0)
        number += 1
        span_id = f"{number:016x}"
        waiting += [(child, span_id) for child in view.children]
        yield Span.from_dict(_as_dict(trace, view, span_id, parent))


def _as_dict(trace: TraceView, view: SpanView, span_id: str, parent: str | None) -> dict[str, Any]:
    """Return a span in the form in which MLflow stores it. Attributes are JSON."""
    attributes = {
        "mlflow.traceRequestId": f"tr-{trace.trace_id}",
        "mlflow.spanType": view.kind,
        "mlflow.spanInputs": view.inputs,
        "mlflow.spanOutputs": view.outputs,
        **view.attributes,
    }
    return {
        "trace_id": f"tr-{trace.trace_id}",
        "span_id": span_id,
        "parent_span_id": parent,
        "name": view.name,
        "start_time_unix_nano": view.start_ns,
        "end_time_unix_nano": view.end_ns,
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {key: json.dumps(value) for key, value in attributes.items() if value is not None},
        "events": [],
    }
