"""A runtime's events as log records of the standard library's `logging`.

A record's message is `event.describe()`, which is stable text. The facts are attributes of the
record: `record.event` is the event, and `plugin`, `version`, `generation`, `verb`, `epoch`,
`change`, `reason` and `code` are set where the event has them.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.events import Event, EventStream

logger: Final = logging.getLogger("epochal")
_FACTS: Final = ("plugin", "version", "generation", "verb", "epoch", "change", "reason", "code")


def log_events(events: EventStream, to: logging.Logger = logger) -> Callable[[], None]:
    """Log a runtime's events from now on: `log_events(runtime.events)`.

    Each event has a level of its own: state changes and starts are DEBUG, commits INFO, leaks and
    drains that outlast a limit WARNING, failures ERROR.

    Args:
        events: the runtime's `events`.
        to: the logger.

    Returns:
        A function that stops the logging, after the events that were emitted before are logged.
    """

    def log(event: Event) -> None:
        if to.isEnabledFor(event.level):
            found = {name: getattr(event, name, None) for name in _FACTS}
            facts = {name: value for name, value in found.items() if value not in (None, "")}
            to.log(event.level, "%s", event.describe(), extra={"event": event, **facts})

    return events.subscribe(log)


def _iso(at: float) -> str:
    """A time with its offset from UTC: `2026-01-02T03:04:05.678+01:00`."""
    return datetime.fromtimestamp(at, UTC).astimezone().isoformat(timespec="milliseconds")


class TextLines(logging.Formatter):
    """Formats each record as a line for people: time, level, message, and a traceback below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The record's time in ISO 8601."""
        return _iso(record.created)


class JsonLines(logging.Formatter):
    """Formats each record as one line of JSON: time, level, message and the facts of its event."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, without a line break."""
        facts = {
            "at": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _FACTS:
            if hasattr(record, name):
                facts[name] = getattr(record, name)
        if (event := getattr(record, "event", None)) is not None:
            facts["event"] = type(event).__name__
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False, default=str)
