"""A runtime's events as log records of the standard library's `logging`.

The message of a record is stable text; the facts are in its attributes (`record.event` is the event
itself, `record.plugin`, `record.generation` where there are any), for handlers that structure them.
"""

from __future__ import annotations

import json
import logging
from math import isfinite
from typing import TYPE_CHECKING, Final

from epochal import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.events import Event, EventStream
    from epochal.report import Cutover

logger: Final = logging.getLogger("epochal")
_FACTS: Final = ("plugin", "generation", "change")


def log_events(events: EventStream, to: logging.Logger = logger) -> Callable[[], None]:
    """Log a runtime's events from now on: `log_events(runtime.events)`.

    Moves and starts are DEBUG, commits INFO, time-outs and leaks WARNING, failures ERROR.

    Args:
        events: the runtime's `events`.
        to: the logger.

    Returns:
        A function that stops it, once what happened before is logged.
    """

    def log(event: Event) -> None:
        level, message = describe(event)
        if to.isEnabledFor(level):
            facts = {name: getattr(event, name) for name in _FACTS if hasattr(event, name)}
            to.log(level, "%s", message, extra={"event": event, **facts})

    return events.subscribe(log)


class JsonLines(logging.Formatter):
    """Writes each record as one line of JSON: when, how grave, what, and the facts of its event."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
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


def describe(event: Event) -> tuple[int, str]:
    """The level of an event and its line."""
    match event:
        case ev.StateChanged(plugin=plugin, generation=number, old=old, new=new):
            return logging.DEBUG, f"{plugin}#{number} {old.name} -> {new.name}"
        case ev.ChangeStarted(change=number, steps=steps):
            return logging.DEBUG, f"change {number} started: {'; '.join(steps)}"
        case ev.ChangeCommitted(change=number, epoch_after=epoch, plugins=plugins):
            return logging.INFO, f"change {number} published epoch {epoch}: {', '.join(plugins)}"
        case ev.StateDropped(plugin=plugin, generation=number, dropped=dropped):
            return logging.WARNING, f"{plugin}#{number} has no place for {'; '.join(dropped)}"
        case ev.ChangeFailed(change=number, code=code, error=error):
            return logging.ERROR, f"change {number} rolled back [{code}]: {error}"
        case ev.ChangeFinished(change=number, cutover=cutover):
            return logging.INFO, f"change {number} finished: {_outcome(cutover)}"
        case ev.DrainTimedOut(plugin=plugin, generation=number, waited=waited, holders=holders):
            who = "; ".join(holders) or "nobody that can be named"
            return (
                logging.WARNING,
                f"{plugin}#{number} still in use after {waited:.1f} s, drains on: {who}",
            )
        case ev.HoldersAsked(plugin=plugin, generation=number, holders=holders):
            who = "; ".join(holders) or "nobody that can be asked"
            return logging.WARNING, f"{plugin}#{number} asked to stop: {who}"
        case ev.ShutdownFailed(plugin=plugin, generation=number, error=error):
            return logging.ERROR, f"{plugin}#{number} shutdown: {error}"
        case ev.GenerationLeaked(plugin=plugin, generation=number, leaks=leaks):
            return logging.WARNING, f"{plugin}#{number} is still in memory: {'; '.join(leaks)}"
        case ev.SourceRefused(path=path, code=code, error=error):
            return logging.ERROR, f"{path} refused [{code}]: {error}"
        case ev.SourceGone(path=path, plugin=plugin):
            return logging.WARNING, f"{path} is gone, {plugin} serves on"
        case ev.TickEnded(plugin=plugin, generation=number, job=job, took_ms=took_ms):
            return logging.DEBUG, f"job {job} ran on {plugin}#{number}: {took_ms:.1f} ms"
        case ev.TickFailed(job=job, error=error, by_hand=True):
            return logging.ERROR, f"job {job} failed when it was run by hand: {error}"
        case ev.TickFailed(job=job, error=error, failures=failures, wait_s=wait_s):
            pause = f"for {wait_s:g} s" if isfinite(wait_s) else "until a reload"
            return logging.ERROR, (
                f"job {job} failed, {failures} in a row, not tried again {pause}: {error}"
            )
        case ev.TicksSkipped(job=job, count=count, reason=reason):
            # The others come by the thousand from a job that takes longer than its interval.
            level = logging.WARNING if reason == "too late" else logging.INFO
            return level, f"job {job}: {count} ticks left out, {reason}"
        case ev.JobRefused(job=job, error=error):
            return logging.ERROR, f"job {job} is not run: {error}"
        case ev.WorkersBusy(waiting=waiting, running=running):
            return logging.WARNING, (
                f"{waiting} jobs are due and no worker is free; running: {', '.join(running)}"
            )
        case ev.BreakerMoved(job=job, state=state):
            return logging.WARNING, f"the circuit breaker of job {job} is {state}"
        case ev.FlowFailed(source=source, sink=sink, error=error, wait_s=wait_s):
            return logging.ERROR, f"{source} -> {sink} failed, goes on in {wait_s:g} s: {error}"
        case ev.StoreFaulted(error=error):
            return logging.WARNING, f"store: {error}"
        case ev.SubscriberFailed(subscriber=subscriber, error=error):
            return logging.ERROR, f"subscriber {subscriber} raised {error}"
        case ev.EventsMissed(count=count):
            return logging.WARNING, f"at least {count} events were missed: this log is too slow"
        case _:
            return logging.INFO, repr(event)


def _outcome(cutover: Cutover) -> str:
    memory = "memory reclaimed" if cutover.reclaimed else "memory not reclaimed"
    return f"drained, {memory}, {cutover.cutover_ms:.1f} ms"
