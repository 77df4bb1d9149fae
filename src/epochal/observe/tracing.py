"""OpenTelemetry: a span for each change with its phases, spans for queries, and metrics.

::

    end = instrument(runtime)               # with the process's providers

    with query_span(sql) as planned, db.query(sql) as result:
        planned(result)
        ...

Only OpenTelemetry's API is used: in a process without an SDK all of this does nothing. Needs the
extra `otel` (`pip install 'epochal[otel]'`). docs/observability.md lists every name.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context, attach
    from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
    from opentelemetry.propagate import extract
except ImportError as error:  # pragma: no cover  # the test environment has it
    raise ImportError(
        f"epochal.observe.tracing needs the extra 'otel': pip install 'epochal[otel]' ({error})"
    ) from error

from epochal.events import (
    ChangeCommitted,
    ChangeFailed,
    ChangeFinished,
    ChangeStarted,
    DrainTimedOut,
    GenerationLeaked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanContext, TracerProvider

    from epochal.events import Event
    from epochal.report import Cutover
    from epochal.runtime import Runtime
    from epochal.sql.result import Result

_NAME: Final = "epochal"
_NS: Final = 1_000_000_000
_tracer: Final = trace.get_tracer(_NAME)
_IS_CONFIGURED: Final = OTEL_PYTHON_TRACER_PROVIDER in os.environ
"""Whether the API itself loads a provider when it is first asked for one."""


def instrument(
    runtime: Runtime,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Callable[[], None]:
    """Export spans and metrics of a runtime's changes from now on.

    A change runs on a thread of its own; its span is a child of the span in which it was asked for,
    also when it ends after that. Its number is an attribute.

    Args:
        runtime: emits the events.
        tracer_provider: gets the spans; None for the process's.
        meter_provider: gets the metrics; None for the process's.

    Returns:
        A function that stops the export, after the events that were emitted before.
    """
    exporter = _ChangeExporter(runtime, tracer_provider, meter_provider)
    runtime.events.identify_callers(_span_context)
    return runtime.events.subscribe(exporter.on_event)


def join_trace(headers: Mapping[str, str]) -> None:
    """Make what the present task does part of its caller's trace, if `traceparent` names one."""
    if "traceparent" in headers:
        attach(extract(headers))


def is_traced() -> bool:
    """Whether a span of a query would be anything: there is an SDK, or a caller's trace."""
    # Without its public name's look at the environment, which takes 3 µs.
    is_alone = not _IS_CONFIGURED and getattr(trace, "_TRACER_PROVIDER", _tracer) is None
    return not is_alone or trace.get_current_span() is not trace.INVALID_SPAN


@contextmanager
def query_span(
    sql: str, *, tracer_provider: TracerProvider | None = None
) -> Generator[Callable[[Result], None], None, None]:
    """Open a span around a query, with the epoch and the plugin versions that computed it.

    Args:
        sql: the query's text, which becomes an attribute; pass parameters apart from it.
        tracer_provider: gets the span; None for the process's.

    Yields:
        A function to call with the query's result, once it is planned.
    """
    # The process's tracer stands for whichever provider is set, now or later.
    tracer = _tracer if tracer_provider is None else trace.get_tracer(_NAME, None, tracer_provider)
    facts = {"db.system.name": "datafusion", "db.query.text": sql}
    span = tracer.start_span("epochal.query", attributes=facts)
    if not (span.is_recording() or span.get_span_context().is_valid):
        yield _ignore  # a process without an SDK
        return
    with trace.use_span(span, end_on_exit=True):
        yield lambda result: _describe(span, result)


def _ignore(_: Result) -> None:
    """Describe no span."""


def _describe(span: Span, result: Result) -> None:
    if not span.is_recording():
        return
    span.set_attribute("epochal.epoch.number", result.epoch.number)
    span.set_attribute("epochal.epoch.id", result.epoch.id)
    versions = (f"{v.plugin} {v.version} {v.digest[:8]}" for v in result.provenance)
    span.set_attribute("epochal.plugins", list(dict.fromkeys(versions)))


def _span_context() -> SpanContext:
    """The span of the code that asks for a change: a few numbers, which hold nothing."""
    return trace.get_current_span().get_span_context()


class _ChangeExporter:
    """Makes spans and metrics of a runtime's events; used by the subscription's thread alone."""

    def __init__(
        self,
        runtime: Runtime,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._tracer: Final = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._started: Final[dict[int, ChangeStarted]] = {}
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._count: Final = meter.create_counter(
            "epochal.changes", unit="{change}", description="Changes, by their error's code."
        )
        self._cutover: Final = meter.create_histogram(
            "epochal.cutover.duration", unit="s", description="A change without its waits."
        )
        self._drain: Final = meter.create_histogram(
            "epochal.drain.duration", unit="s", description="Until the old code was unused."
        )
        self._timed_out: Final = meter.create_counter(
            "epochal.drain.timeouts", unit="{drain}", description="Drains over their limit."
        )
        self._leaked: Final = meter.create_counter(
            "epochal.leaks", unit="{generation}", description="Old code still in memory."
        )
        for name, unit, read in (
            ("epochal.epoch", "1", lambda: runtime.epoch.number),
            ("epochal.plugins", "{plugin}", lambda: len(runtime.epoch.generations)),
            ("epochal.draining", "{generation}", lambda: len(runtime.draining)),
        ):
            meter.create_observable_gauge(name, callbacks=[_observing(read)], unit=unit)

    def on_event(self, event: Event) -> None:
        """Export an event."""
        match event:
            case ChangeStarted():
                self._started[event.change] = event
            case ChangeCommitted():
                self._count.add(1, {"outcome": "committed"})
            case ChangeFailed():
                self._count.add(1, {"outcome": event.code})
                self._export_failure(event)
            case ChangeFinished():
                self._export_cutover(event)
            case DrainTimedOut():
                self._timed_out.add(1, {"epochal.plugin": event.plugin})
            case GenerationLeaked():
                self._leaked.add(1, {"epochal.plugin": event.plugin})
            case _:
                pass

    def _export_failure(self, event: ChangeFailed) -> None:
        begin = self._started.pop(event.change, None)
        facts: dict[str, Any] = {"epochal.change": event.change, "error.type": event.code}
        if begin is not None:
            facts["epochal.steps"] = list(begin.steps)
        ended = round(event.at * _NS)
        started = ended - round(sum(event.phases_ms.values()) * 1e6)
        span = self._tracer.start_span(
            "epochal.change", _within(event.caller), attributes=facts, start_time=started
        )
        span.set_status(trace.StatusCode.ERROR, event.error)
        self._export_phases(span, started, event.phases_ms)
        span.end(ended)

    def _export_cutover(self, event: ChangeFinished) -> None:
        self._started.pop(event.change, None)
        cutover = event.cutover
        self._cutover.record(cutover.cutover_ms / 1e3)
        self._drain.record(cutover.phases_ms.get("drain", 0.0) / 1e3)
        ended = round(event.at * _NS)
        started = ended - round(cutover.total_ms * 1e6)
        root = self._tracer.start_span(
            "epochal.change", _within(event.caller), attributes=_facts(cutover), start_time=started
        )
        root.end(max(ended, self._export_phases(root, started, cutover.phases_ms)))

    def _export_phases(self, root: Span, started: int, phases_ms: Mapping[str, float]) -> int:
        """Export a span for each phase; returns the end of the last."""
        within = trace.set_span_in_context(root, Context())
        # There are durations only; the steps ran one after the other.
        at = started
        for phase, ms in phases_ms.items():
            span = self._tracer.start_span(f"epochal.{phase}", within, start_time=at)
            at += round(ms * 1e6)
            span.end(at)
        return at


def _within(caller: object) -> Context:
    """The context of the span in which a change was asked for; an empty one for none."""
    if not isinstance(caller, trace.SpanContext) or not caller.is_valid:
        return Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(caller), Context())


def _facts(cutover: Cutover) -> dict[str, Any]:
    return {
        "epochal.change": cutover.change,
        "epochal.epoch.before": cutover.epoch_before,
        "epochal.epoch.after": cutover.epoch_after,
        "epochal.plugins": [str(swap.new or swap.old) for swap in cutover.swaps],
        "epochal.steps": list(cutover.steps),
        "epochal.reclaimed": cutover.reclaimed,
        "epochal.leaks": [str(leak) for leak in cutover.leaks],
    }


def _observing(read: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [metrics.Observation(read())]
