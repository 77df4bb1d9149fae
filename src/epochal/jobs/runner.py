"""Runs the jobs of a runtime's plugins by their schedules.

::

    with Jobs(runtime) as jobs:
        ...
        for status in jobs.status(): print(status)

`Jobs` combines four parts. The `JobTable` has each job's state: its place in its schedule. The
`JobTimer` knows names and times, never code and never a schedule; an expired timer means "look at
this job". `run_job` looks the function up in the epoch that is current then. `Positions` stores the
jobs' places. So a reload does not touch a schedule, nothing is held in use between ticks, and a
tick in progress ends on the code that it began with. `Jobs` learns from the runtime's events which
jobs a change added, removed or rescheduled.

Ticks of one job never overlap: one that is due during the previous run is left out. A tick that was
missed because the process was away or busy is made up for once, if it is not older than `grace_s`.
A failed tick is retried after a wait, until it succeeds or the next one takes its place. Ticks that
are left out are counted (`skipped`) and emitted as `TicksSkipped`.

Threads and locks
-----------------

``_table``, with the states in it and the known positions, is read and written under ``_lock``. The
runtime's epoch is read under it too, so that no thread applies an older epoch after a newer one.
Runs, and all other plugin code, are outside of it. The timer and the positions have locks of their
own, which are taken under ours, never the other way round: neither calls us while it holds its
lock. ``_inside`` has the threads that are inside a run; each adds and removes itself.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from epochal._core.generation.ambient import leave_all
from epochal._core.sync.completion import Completion
from epochal._core.sync.retry import RetryPolicy
from epochal.errors import ForkedRuntimeError, HostError, UnknownExportError, format_error
from epochal.events import ChangeCommitted, Event, EventsMissed, StoreFaulted, SubscriberFailed
from epochal.jobs.clock_monitor import Clock, Drift, Heartbeat
from epochal.jobs.job_table import JobTable
from epochal.jobs.ownership import claim
from epochal.jobs.positions import Positions
from epochal.jobs.run import Outcome, run_job
from epochal.jobs.status import JobStatus, status_of
from epochal.jobs.timer import JobTimer
from epochal.kinds.job import Schedule, job

if TYPE_CHECKING:
    from epochal.jobs.job_state import JobState, Run
    from epochal.runtime import Runtime


class Jobs:
    """Runs the jobs of a runtime's plugins, from now until it is closed; a context manager.

    There is one for each runtime. A job with an impossible schedule, and a file of positions that
    cannot be used, cause events and stop nothing else.

    Args:
        runtime: has the plugins. If it has a store, positions in schedules are stored there, and
            survive a restart.
        workers: how many jobs run at once.
        retry: how long to wait after failures; None for `RetryPolicy()`.
        grace_s: seconds by which a tick may be late and still runs; may be infinite.

    Raises:
        HostError: another `Jobs` runs this runtime's jobs already.
        ValueError: `workers` or `grace_s` is out of range.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        workers: int = 8,
        retry: RetryPolicy | None = None,
        grace_s: float = 3600.0,
    ) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers is {workers!r}; expected a whole number, at least 1")
        if not isinstance(grace_s, (int, float)) or not grace_s >= 0:
            raise ValueError(f"grace_s is {grace_s!r}; expected seconds, at least 0")
        self._runtime: Final = runtime
        self._workers: Final = workers
        self._emit: Final = runtime.events.emit
        self._clock: Final = Clock()
        self._drift: Final = Drift(self._clock)
        self._context: Final = copy_context()
        self._context.run(leave_all)  # runs belong to no operation of the caller
        self._pid: Final = os.getpid()
        self._lock: Final = threading.Lock()
        self._ended: Final[Completion[None]] = Completion()
        self._inside: Final[set[int]] = set()
        with ExitStack() as undo:
            self._unclaim: Final = claim(runtime, "jobs", f"the jobs of {runtime!r} are run")
            undo.callback(self._unclaim)
            folder = runtime.store_folder
            self._positions: Final = Positions(
                folder / "jobs.db" if folder is not None else None,
                lambda text: self._emit(StoreFaulted(error=text)),
            )
            undo.callback(self._positions.close)
            self._timer: Final = JobTimer(workers=workers, on_timer=self._on_timer)
            undo.callback(self._timer.close)
            self._table: Final = JobTable(
                self._emit,
                self._clock,
                self._timer,
                self._positions,
                retry or RetryPolicy(),
                grace_s,
            )
            # Subscribe before the first look: a change between the two would be missed.
            self._unsubscribe: Final = runtime.events.subscribe(self._on_event)
            undo.callback(self._unsubscribe)
            self._update_jobs()
            self._heartbeat: Final = Heartbeat(self._on_heartbeat)
            undo.pop_all()

    # --- for callers -------------------------------------------------------------------------

    def status(self) -> list[JobStatus]:
        """The status of every job, by name.

        Raises:
            ForkedRuntimeError: in a forked child, which has none of the workers.
        """
        self._check_process()
        with self._lock:
            now = self._clock.now()
            for state in self._table.active.values():
                self._table.count_skipped(state, now)
            return [status_of(state, now) for state in self._table.active.values()]

    def run_now(self, name: str) -> None:
        """Run a job as soon as a worker is free; its schedule stays as it is.

        The call is left out if the job is running; a tick that is due meanwhile comes after it. If
        the run succeeds, earlier failures are forgotten, as after a reload; if it fails, a
        `TickFailed` event is emitted, and there is no retry.

        Raises:
            UnknownExportError: there is no such job.
            HostError: this is closed.
            ForkedRuntimeError: in a forked child.
        """
        self._check_process()
        with self._lock:
            if self._table.closed:
                raise HostError(f"job {name!r} cannot be run: this Jobs was closed")
            if name not in (known := self._table.active):
                raise UnknownExportError(job.name, name, list(known))
            self._timer.run_now(name)

    def close(self, timeout: float | None = None) -> bool:
        """Begin no further run, and wait for those in progress. Idempotent.

        Args:
            timeout: seconds to wait; None for no limit.

        Returns:
            Whether they ended. (The process waits at its end for the thread of a run. A run that
            outlives this call still stores its job's position when it ends.)

        Raises:
            HostError: called by a run, which would wait for itself.
            ForkedRuntimeError: in a forked child.
        """
        self._check_process()
        if threading.get_ident() in self._inside:
            raise HostError("a tick cannot close the Jobs that runs it: it would wait for itself")
        with self._lock:
            self._table.closed = True
            self._timer.stop()
            self._note_end()
        is_quiet = self._ended.wait(timeout)
        self._unsubscribe()
        self._heartbeat.stop()
        self._timer.close()
        if is_quiet:
            self._release(timeout)
        return is_quiet

    def _note_end(self) -> bool:
        """Under the lock: whether no run is left and none can begin; wakes `close` then."""
        is_over = self._table.closed and not self._table.running
        if is_over:
            self._ended.set_result(None)
        return is_over

    def _release(self, timeout: float | None) -> None:
        """Called when no run is left and none can begin: by `close`, or by the last run."""
        # In this order: the next `Jobs` reads the file that this one writes.
        self._positions.close(timeout)
        self._unclaim()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"these jobs run in process {self._pid}; this is its fork {os.getpid()}, "
                "which has none of its threads: make a new Runtime here, and a new Jobs"
            )

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- following the runtime ---------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if isinstance(event, (ChangeCommitted, EventsMissed)):
            self._update_jobs()

    def _update_jobs(self) -> None:
        """Schedule new jobs and drop removed ones; the others stay as they are."""
        with self._lock:
            if not self._table.closed:
                # Read under the lock: a thread that read an older epoch must not apply it last.
                self._table.update(_jobs_of(self._runtime))

    # --- runs --------------------------------------------------------------------------------

    def _on_timer(self, name: str, by_hand: bool) -> None:
        """Run a job if it is due; called on a worker's thread, which drops any error."""
        try:
            if (started := self._start(name, by_hand)) is not None:
                self._run(*started)
        except Exception as error:  # noqa: BLE001  a fault of ours: report it, and keep the job
            with self._lock:
                self._table.record_fault(name, format_error(error))

    def _start(self, name: str, by_hand: bool) -> tuple[JobState, Run] | None:
        """Start a run, if one is due."""
        with self._lock:
            started = self._table.start(name, by_hand=by_hand)
            if started is not None:
                self._inside.add(threading.get_ident())
            return started

    def _run(self, state: JobState, run: Run) -> None:
        outcome: Outcome | None = None
        try:
            outcome = run_job(self._runtime, state.name, self._context.copy())
        finally:
            self._inside.discard(threading.get_ident())
            if self._finish(state, run, outcome):
                self._release(None)

    def _finish(self, state: JobState, run: Run, outcome: Outcome | None) -> bool:
        """Record the result of a run and set the next; returns whether it was the last of all."""
        with self._lock:
            try:
                self._table.finish(state, run, outcome)
            finally:
                is_last = self._note_end()
            return is_last

    # --- the heartbeat -----------------------------------------------------------------------

    def _on_heartbeat(self) -> None:
        try:
            self._check()
        except Exception as error:  # noqa: BLE001  a fault of ours: report it, and beat on
            self._emit(SubscriberFailed(subscriber="Jobs", error=format_error(error)))

    def _check(self) -> None:
        """Check whether the clock was set, a run outlasts its interval, and a worker is free."""
        set_by_s = self._drift.measure()
        with self._lock:
            if self._table.closed:
                return
            self._table.check(set_by_s, self._workers)
        self._timer.wake()

    def __repr__(self) -> str:
        return f"<{len(self._table.jobs)} jobs of {self._runtime!r}>"


def _jobs_of(runtime: Runtime) -> dict[str, tuple[Schedule, int]]:
    """The schedule of each job, and the number of its plugin's generation."""
    epoch = runtime.epoch  # released at the return: a caller holds nothing in use
    jobs: dict[str, tuple[Schedule, int]] = {}
    for name in epoch[job]:
        export = epoch.export(job, name)
        jobs[name] = (export.options["schedule"], epoch.generations[export.plugin].number)
    return jobs
