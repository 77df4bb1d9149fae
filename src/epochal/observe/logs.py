"""A runtime's events as log records of the standard library's `logging`.

A record's message is `event.describe()`, which is stable text. The facts are attributes of the
record: `record.event` is the event, and `record.plugin`, `record.generation` and `record.change`
are set where the event has them.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.events import Event, EventStream

logger: Final = logging.getLogger("epochal")
_FACTS: Final = ("plugin", "generation", "change")


def log_events(events: EventStream, to: logging.Logger = logger) -> Callable[[], None]:
    """Log a runtime's events from now on: `log_events(runtime.events)`.

    Each event has a level of its own: state changes and starts are DEBUG, commits INFO, time-outs
    and leaks WARNING, failures ERROR.

    Args:
        events: the runtime's `events`.
        to: the logger.

    Returns:
        A function that stops the logging, after the events that were emitted before are logged.
    """

    def log(event: Event) -> None:
        if to.isEnabledFor(event.level):
            facts = {name: getattr(event, name) for name in _FACTS if hasattr(event, name)}
            to.log(event.level, "%s", event.describe(), extra={"event": event, **facts})

    return events.subscribe(log)


class JsonLines(logging.Formatter):
    """Formats each record as one line of JSON: time, level, message and the facts of its event."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, without a line break."""
        facts = {
            "at": record.created,
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
