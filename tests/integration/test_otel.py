"""The spans and metrics of changes and queries."""

from contextlib import suppress
from itertools import pairwise

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.conftest import tool

from epochal.errors import LinkError, QueryError
from epochal.observe.tracing import instrument, query_span
from epochal.sql import Database

GEO = "@tool\ndef f(): return 1\n"
SQL = """\
# /// plugin
# id = "geo"
# version = "1.0"
# ///
from epochal.kinds import scalar

@scalar
def double(x: int) -> int:
    return 2 * x
"""


class Telemetry:
    """The spans and metrics of all events up to now."""

    def __init__(self, rt):
        self._spans = InMemorySpanExporter()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader])
        self._end = instrument(rt, tracer_provider=self.tracing, meter_provider=meters)

    def spans(self):
        self._end()
        return self._spans.get_finished_spans()

    def metrics(self):
        self._end()
        data = self._reader.get_metrics_data()
        return {
            (metric.name, *point.attributes.values()): getattr(point, "value", None)
            or getattr(point, "count", 0)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }


@pytest.fixture
def telemetry(rt):
    return Telemetry(rt)


def test_a_change_is_a_span_with_its_phases_inside(rt, plugins, telemetry):
    rt.load(plugins.write("geo", GEO))
    rt.reload("geo")
    spans = telemetry.spans()
    roots = [span for span in spans if span.name == "epochal.change"]
    assert [span.attributes["epochal.change"] for span in roots] == [1, 2]
    assert roots[1].attributes["epochal.epoch.after"] == 2
    root = roots[1].context.span_id
    inside = [span for span in spans if span.parent and span.parent.span_id == root]
    names = [span.name for span in inside]
    assert (
        names.index("epochal.link") < names.index("epochal.init") < names.index("epochal.publish")
    )
    for before, after in pairwise(inside):
        assert before.end_time <= after.start_time
    assert inside[0].start_time >= roots[1].start_time
    assert inside[-1].end_time <= roots[1].end_time


def test_a_refused_change_is_a_span_with_an_error(rt, plugins, telemetry):
    with pytest.raises(LinkError):
        rt.load(plugins.write("geo", "1/0\n"))
    *phases, span = telemetry.spans()
    assert "epochal.link" in [phase.name for phase in phases]
    assert {phase.parent.span_id for phase in phases} == {span.context.span_id}
    assert span.start_time <= phases[0].start_time
    assert phases[-1].end_time <= span.end_time
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "link"
    assert "ZeroDivisionError" in span.status.description


@pytest.mark.parametrize("code", [GEO, "1/0\n"], ids=["committed", "refused"])
def test_a_changes_span_is_a_child_of_its_callers(rt, plugins, telemetry, code):
    path = plugins.write("geo", code)
    tracer = telemetry.tracing.get_tracer("the caller")
    with tracer.start_as_current_span("request") as caller, suppress(LinkError):
        rt.load(path)
    (change,) = [span for span in telemetry.spans() if span.name == "epochal.change"]
    assert change.parent.span_id == caller.get_span_context().span_id
    assert change.context.trace_id == caller.get_span_context().trace_id


def test_changes_are_counted_in_metrics(rt, plugins, telemetry):
    path = plugins.write("geo", GEO)
    rt.load(path)
    rt.reload("geo")
    export = rt.epoch[tool]["geo.f"]
    rt.reload("geo", drain_timeout=0.0)
    plugins.write("geo", "1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    del export
    metrics = telemetry.metrics()
    assert metrics["epochal.changes", "committed"] == 3
    assert metrics["epochal.changes", "link"] == 1
    assert metrics["epochal.drain.timeouts", "geo"] == 1
    assert metrics["epochal.epoch",] == 3
    assert metrics["epochal.plugins",] == 1
    assert metrics["epochal.cutover.duration",] >= 2


def test_a_querys_span_names_the_plugin_versions(rt, tmp_path, telemetry):
    path = tmp_path / "geo.py"
    path.write_text(SQL)
    rt.load(path)
    sql = "SELECT geo.double(21)"
    with (
        Database(rt) as db,
        query_span(sql, tracer_provider=telemetry.tracing) as planned,
        db.query(sql) as result,
    ):
        planned(result)
        assert result.rows() == [(42,)]
    span = next(span for span in telemetry.spans() if span.name == "epochal.query")
    assert span.attributes["db.query.text"] == sql
    assert span.attributes["epochal.epoch.number"] == 1
    assert span.attributes["epochal.plugins"][0].startswith("geo 1.0 ")


def test_a_query_that_fails_marks_its_span(rt, telemetry):
    with (
        Database(rt) as db,
        pytest.raises(QueryError),
        query_span("SELECT nope", tracer_provider=telemetry.tracing),
    ):
        db.query("SELECT nope")
    (span,) = telemetry.spans()
    assert span.status.status_code is StatusCode.ERROR


def test_without_a_provider_nothing_is_exported_and_nothing_fails(rt, plugins):
    end = instrument(rt)
    rt.load(plugins.write("geo", GEO))
    with query_span("SELECT 1"):
        pass
    end()
