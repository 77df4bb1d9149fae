"""What OpenTelemetry is told of changes and queries."""

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


class Told:
    """Spans and metrics, once the runtime's events until now are told."""

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
def told(rt):
    return Told(rt)


def test_a_change_is_a_span_with_its_phases_inside(rt, plugins, told):
    rt.load(plugins.write("geo", GEO))
    rt.reload("geo")
    spans = told.spans()
    roots = [span for span in spans if span.name == "epochal.change"]
    assert [span.attributes["epochal.change"] for span in roots] == [1, 2]
    assert roots[1].attributes["epochal.epoch.after"] == 2
    inside = [one for one in spans if one.parent and one.parent.span_id == roots[1].context.span_id]
    names = [span.name for span in inside]
    assert (
        names.index("epochal.link") < names.index("epochal.init") < names.index("epochal.publish")
    )
    for before, after in pairwise(inside):
        assert before.end_time <= after.start_time
    assert inside[0].start_time >= roots[1].start_time
    assert inside[-1].end_time <= roots[1].end_time


def test_a_refused_change_is_a_span_with_an_error(rt, plugins, told):
    with pytest.raises(LinkError):
        rt.load(plugins.write("geo", "1/0\n"))
    (span,) = told.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "link"
    assert "ZeroDivisionError" in span.status.description


def test_metrics_count(rt, plugins, told):
    path = plugins.write("geo", GEO)
    rt.load(path)
    rt.reload("geo")
    kept = rt.epoch[tool]["geo.f"]
    rt.reload("geo", drain_timeout=0.0)
    plugins.write("geo", "1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    del kept
    found = told.metrics()
    assert found["epochal.changes", "committed"] == 3
    assert found["epochal.changes", "link"] == 1
    assert found["epochal.drain.timeouts", "geo"] == 1
    assert found["epochal.epoch",] == 3
    assert found["epochal.plugins",] == 1
    assert found["epochal.cutover.duration",] >= 2


def test_a_querys_span_says_which_code_computed_it(rt, tmp_path, told):
    path = tmp_path / "geo.py"
    path.write_text(SQL)
    rt.load(path)
    sql = "SELECT geo.double(21)"
    with (
        Database(rt) as db,
        query_span(sql, tracer_provider=told.tracing) as planned,
        db.query(sql) as result,
    ):
        planned(result)
        assert result.rows() == [(42,)]
    span = next(span for span in told.spans() if span.name == "epochal.query")
    assert span.attributes["db.query.text"] == sql
    assert span.attributes["epochal.epoch.number"] == 1
    assert span.attributes["epochal.plugins"][0].startswith("geo 1.0 ")


def test_a_query_that_fails_marks_its_span(rt, told):
    with (
        Database(rt) as db,
        pytest.raises(QueryError),
        query_span("SELECT nope", tracer_provider=told.tracing),
    ):
        db.query("SELECT nope")
    (span,) = told.spans()
    assert span.status.status_code is StatusCode.ERROR


def test_without_a_provider_nothing_is_told_and_nothing_fails(rt, plugins):
    end = instrument(rt)
    rt.load(plugins.write("geo", GEO))
    with query_span("SELECT 1"):
        pass
    end()
