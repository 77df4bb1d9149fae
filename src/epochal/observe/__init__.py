"""Shows what a runtime does: logs, Prometheus metrics, OpenTelemetry spans, query statistics.

`tracing` and `prometheus` need their extras, so this package itself imports `log_events` alone.
"""

from epochal.observe.logs import log_events

__all__ = ["log_events"]
