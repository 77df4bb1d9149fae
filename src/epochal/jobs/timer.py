"""An alarm clock and the workers that it wakes: APScheduler, behind the few words that we need.

It knows names and times, never code and never a schedule: there is one alarm for each job, and what
a ring means is decided by whoever is rung (`jobs/job_state.py`). So nothing of the scheduler's own
bookkeeping (its misfires, its count of instances, what it coalesces) has a say in what runs, and
none of its threads calls back while it holds one of its locks. Its methods take them, so a caller's
own lock comes first.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

_ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LIMIT: Final = 1_000_000_000
_OPTIONS: Final[dict[str, Any]] = {"misfire_grace_time": None, "max_instances": _NO_LIMIT}

# Without a handler of somebody's, what it says would be written to standard error.
logging.getLogger("apscheduler").addHandler(logging.NullHandler())


class Timetable:
    """Calls a function with a job's name at the time that was set for it, on threads of its own.

    Args:
        workers: how many at once.
        ring: called with a name, and whether it was asked for by hand.
    """

    def __init__(self, *, workers: int, ring: Callable[[str, bool], object]) -> None:
        self._ring: Final = ring
        self._closing: Final = threading.Lock()
        self._scheduler: Final = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(workers)}, daemon=True, timezone=UTC
        )
        self._scheduler.start()

    def put(self, name: str, at: float) -> None:
        """Ring once at a time, in seconds since the Unix epoch; instead of what was set before."""
        # Up, to the next microsecond: a ring before its time would be one for nothing.
        when = datetime.fromtimestamp(at, UTC) + timedelta(microseconds=1)
        self._scheduler.add_job(
            self._ring,
            DateTrigger(when),
            id=name,
            args=[name, False],
            replace_existing=True,
            **_OPTIONS,
        )

    def put_now(self, name: str) -> None:
        """Ring once as soon as a worker is free, beside what is set."""
        self._scheduler.add_job(self._ring, DateTrigger(_ALWAYS), args=[name, True], **_OPTIONS)

    def drop(self, name: str) -> None:
        """Do not ring any more."""
        with suppress(JobLookupError):  # it has rung, or was never set
            self._scheduler.remove_job(name)

    def wake(self) -> None:
        """Look at the clock: it may have been set, or the machine have slept."""
        self._scheduler.wakeup()

    def pause(self) -> None:
        """Begin nothing more."""
        if self._scheduler.running:
            self._scheduler.pause()

    def close(self) -> None:
        """End the clock, and wait for no worker; doing so again does nothing."""
        with self._closing:
            if self._scheduler.running:
                # Its thread may be about to take out an alarm that has rung, which it does not find
                # once the state is "stopped", and raises. So first there are none, and under its
                # lock, which waits for what it is at.
                self._scheduler.pause()
                self._scheduler.remove_all_jobs()
                self._scheduler.shutdown(wait=False)
