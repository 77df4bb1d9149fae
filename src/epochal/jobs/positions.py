"""The position of each job in its schedule: in memory, and in the store's folder across restarts.

A position is stored when a job is first scheduled, and when a tick has ended or was left out, not
when it begins. One thread writes it to the file a moment later: no tick and no caller waits for a
disk, and of a job that ticks a thousand times a second only the last position is written. So after
a crash a tick may run again, and none is lost: a tick that is not written as done is still to do. A
start makes up once for the ticks that were missed, if they are within the grace of `Jobs`.

A file that cannot be read or written stops nothing: jobs run, the fault is reported once, and
writing is retried until it succeeds. The position of a removed plugin's job stays, so that the job
goes on from there if it comes back; after a year without a write it is deleted, by a clock that is
not believed to have gone on by more than a month between two starts.

Threads and locks
-----------------

`Jobs` reads and writes ``_known`` under its lock. ``_changed`` and ``_closed`` are guarded by
``_lock``, which is held for a moment, and never while the file is used. The connection belongs to
the writer's thread, and before that starts, to the constructor.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from epochal._core.sync.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The column `regular` is `next_due` here, `not_before` is `retry_at`.
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS job_position (job TEXT PRIMARY KEY, schedule TEXT NOT NULL, "
    "regular REAL, not_before REAL, is_done INTEGER NOT NULL, kept_at REAL NOT NULL)"
)
_CLOCK: Final = "CREATE TABLE IF NOT EXISTS clock (seen_at REAL NOT NULL, ahead REAL NOT NULL)"
"""When the file was last opened, and by how much the clock has jumped ahead, as far as is known."""
_DELETE_OLD: Final = "DELETE FROM job_position WHERE kept_at < ?"
_WRITE: Final = "INSERT OR REPLACE INTO job_position VALUES (?, ?, ?, ?, ?, ?)"
_READ: Final = "SELECT job, schedule, regular, not_before, is_done FROM job_position"
_KEPT_S: Final = 366 * 86400.0
_MOST_AWAY_S: Final = 30 * 86400.0
_BUSY_S: Final = 5.0
_WRITE_BUSY_S: Final = 1.0
"""Shorter than for reading: a write is retried."""
_PAUSE_S: Final = 0.05
"""Between two writes, so that the ticks of this time are written together."""
_REMEDY: Final = "make room there, make it writable, or remove it if it is damaged"
_RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
NEVER_S: Final = 253_370_764_800.0
"""The year 9999, the calendar's last: a job that is due later runs after a reload only."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a job in its schedule.

    Attributes:
        schedule: the schedule, in words.
        next_due: the earliest tick that is not done, in seconds since the Unix epoch.
        retry_at: failures delay the tick until then; None for no delay.
        is_done: the job is a one-shot, and has succeeded.
    """

    schedule: str
    next_due: float | None
    retry_at: float | None = None
    is_done: bool = False


class Positions:
    """The position of each job, by its full name.

    Args:
        path: the file, which is created; None stores positions for this object's life only.
        on_fault: called, on any thread, with a sentence about a fault of the file.
    """

    def __init__(self, path: Path | None, on_fault: Callable[[str], object]) -> None:
        self._path: Final = path
        self._on_fault: Final = on_fault
        self._last_fault = ""
        self._known: Final[dict[str, Position]] = {}
        self._changed: dict[str, Position] = {}
        self._closed = False
        # Not a Condition, which is written in Python: a caller's Ctrl-C may leave that locked.
        self._lock: Final = threading.Lock()
        self._woken: Final[SimpleQueue[None]] = SimpleQueue()
        self._writer: threading.Thread | None = None
        if path is not None:
            self._read(path)
            self._writer = start_thread(partial(self._write_all, path), name="epochal-positions")

    # --- for `Jobs`, under its lock ----------------------------------------------------------

    def get(self, job: str, schedule: str) -> Position | None:
        """The job's position; None if there is none for this schedule."""
        position = self._known.get(job)
        return position if position is not None and position.schedule == schedule else None

    def put(self, job: str, position: Position) -> None:
        """Store the job's position."""
        self._known[job] = position
        if self._path is not None:
            with self._lock:
                self._changed[job] = position
            self._woken.put(None)

    def close(self, timeout: float | None = None) -> None:
        """Write the remaining positions, if the file allows it, and end. Idempotent.

        Args:
            timeout: seconds to wait for that; None for no limit.
        """
        with self._lock:
            self._closed = True
        self._woken.put(None)
        if self._writer is not None:
            self._writer.join(timeout)

    # --- the file ----------------------------------------------------------------------------

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection, connection:
                connection.execute(_TABLE)
                rows = connection.execute(_READ).fetchall()
        except sqlite3.DatabaseError as error:
            self._report(f"cannot be read, so every schedule begins anew: {error}")
            return
        for job, schedule, next_due, retry_at, is_done in rows:
            if _is_time(next_due) or is_done:
                delay = retry_at if _is_time(retry_at) else None
                self._known[job] = Position(schedule, next_due, delay, bool(is_done))

    def _write_all(self, path: Path) -> None:
        connection: sqlite3.Connection | None = None
        failures = 0
        while (changed := self._next()) is not None:
            try:
                if connection is None:
                    connection = _open(path)
                now = time()
                rows = [
                    (job, p.schedule, p.next_due, p.retry_at, p.is_done, now)
                    for job, p in changed.items()
                ]
                with connection:
                    connection.executemany(_WRITE, rows)
                failures, self._last_fault = 0, ""
                wait_s = _PAUSE_S
            except sqlite3.Error as error:
                _close(connection)
                connection = None
                self._put_back(changed)
                self._report(f"cannot be kept: {error}; {_REMEDY}")
                wait_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
                failures += 1
            self._wait(wait_s)
            if self._closed and failures > 1:
                break  # `close` waits, and one more attempt was made since
        _close(connection)

    def _next(self) -> dict[str, Position] | None:
        """Wait for positions to write; None once it is closed and all are written."""
        while not (self._changed or self._closed):
            self._woken.get()
        with self._lock:
            changed, self._changed = self._changed, {}
        return changed or None

    def _wait(self, seconds: float) -> None:
        """Wait until it is closed, for so many seconds at most."""
        end = monotonic() + seconds
        while not self._closed and (left_s := end - monotonic()) > 0:
            with suppress(Empty):
                self._woken.get(timeout=left_s)

    def _put_back(self, changed: dict[str, Position]) -> None:
        with self._lock:
            # In this order: a position that was put meanwhile is the newer one.
            self._changed = changed | self._changed

    def _report(self, text: str) -> None:
        """Report a fault once, not with each retry."""
        if text != self._last_fault:
            self._last_fault = text
            self._on_fault(f"the positions of jobs in {self._path} {text}; jobs run all the same")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WRITE_BUSY_S)
    try:
        with connection:
            connection.execute(_TABLE)
            connection.execute(_CLOCK)
            now = time()
            connection.execute(_DELETE_OLD, (now - _ahead(connection, now) - _KEPT_S,))
    except BaseException:
        connection.close()
        raise
    return connection


def _ahead(connection: sqlite3.Connection, now: float) -> float:
    """By how much the clock may be wrong: what it went on beyond a month since the last start.

    So a start with a wrong clock deletes nothing; what it goes back by was wrong.
    """
    row = connection.execute("SELECT seen_at, ahead FROM clock").fetchone()
    seen_at, ahead = row or (now, 0.0)
    ahead = max(0.0, ahead + min(0.0, now - seen_at) + max(0.0, now - seen_at - _MOST_AWAY_S))
    connection.execute("DELETE FROM clock")
    connection.execute("INSERT INTO clock VALUES (?, ?)", (now, ahead))
    return ahead


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()


def _is_time(value: object) -> bool:
    return isinstance(value, float) and 0.0 <= value < NEVER_S
