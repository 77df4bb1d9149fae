"""When each job runs: APScheduler, behind the few words that we need of it.

It knows names and never code, so whatever is reloaded, it goes on. Its threads call back without
any of its locks; its own methods take them, so its callers' locks come first.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from apscheduler.events import (
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.kinds.job import Schedule

Trigger: TypeAlias = CronTrigger | DateTrigger | IntervalTrigger

# What it would say of ticks that are left out is counted; without a handler of somebody's it would
# be written to standard error.
logging.getLogger("apscheduler").addHandler(logging.NullHandler())


class Timetable:
    """Calls a function with a job's name whenever that job is due, on threads of its own.

    Args:
        workers: how many at once.
        grace_s: seconds by which a tick may be late and is still made up for.
        tick: called with a name, and whether it was asked for by hand.
        missed: called with a name whose tick was later than the grace.
        came: called with a name and the time that a tick was due, alone for all that were due by
            then; and whether the one before still runs, so that it was left out.
    """

    def __init__(
        self,
        *,
        workers: int,
        grace_s: float,
        tick: Callable[[str, bool], object],
        missed: Callable[[str], object],
        came: Callable[[str, datetime, bool], object],
    ) -> None:
        self._tick: Final = tick
        self._missed: Final = missed
        self._came: Final = came
        self._grace_s: Final = max(1, int(grace_s))
        self._scheduler: Final = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(workers)}, daemon=True
        )
        self._scheduler.add_listener(self._on_missed, EVENT_JOB_MISSED)
        self._scheduler.add_listener(self._on_came, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.start()

    def put(self, name: str, trigger: Trigger, at: datetime) -> None:
        """Have a job run at a time, and from then on as its trigger says; instead of before."""
        self._scheduler.add_job(
            self._tick,
            trigger,
            id=name,
            args=[name, False],
            replace_existing=True,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=self._grace_s,
            next_run_time=at,
        )

    def put_now(self, name: str) -> None:
        """Have a job run once as soon as a worker is free; its next time stays."""
        self._scheduler.add_job(self._tick, args=[name, True], misfire_grace_time=None)

    def drop(self, name: str) -> None:
        """Have a job not run any more."""
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return  # its last tick was begun, and the scheduler has dropped it by itself

    def next_at(self, name: str) -> datetime | None:
        """When a job runs next; None where it does not."""
        scheduled = self._scheduler.get_job(name)
        return scheduled.next_run_time if scheduled is not None else None

    def pause(self) -> None:
        """Begin nothing more."""
        if self._scheduler.running:
            self._scheduler.pause()

    def close(self) -> None:
        """End the scheduler, and wait for no tick: it would hold locks that their ends need."""
        self._scheduler.shutdown(wait=False)

    def _on_missed(self, event: JobExecutionEvent) -> None:
        self._missed(event.job_id)

    def _on_came(self, event: JobSubmissionEvent) -> None:
        left_out = event.code == EVENT_JOB_MAX_INSTANCES
        self._came(event.job_id, event.scheduled_run_times[-1], left_out)


def trigger_of(schedule: Schedule) -> Trigger:
    """What the scheduler makes of a schedule.

    Raises:
        ValueError: the cron expression is none.
    """
    if schedule.every_s is not None:
        return IntervalTrigger(seconds=schedule.every_s)
    if schedule.cron is not None:
        return CronTrigger.from_crontab(schedule.cron)
    return DateTrigger(schedule.at)  # a time without a zone is local


def first_time(trigger: Trigger) -> datetime | None:
    """When a schedule that begins now has its first tick; it may have passed, if it is the one."""
    if isinstance(trigger, DateTrigger):
        at: datetime | None = trigger.run_date
    else:
        at = trigger.get_next_fire_time(None, datetime.now(UTC))
    return at
