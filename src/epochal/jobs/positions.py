"""Where each job stands in its schedule: in memory, and in the store's folder from run to run.

A position is kept when a job is first scheduled, and when a tick has ended or was left out, not
when it begins. It is written to the file a moment later, by one thread: no tick waits for a disk,
nor does anybody's question, and of a job that ticks a thousand times a second the last is written.
So a crash may have a tick run again at the next start, and loses none: what it was not written to
have done, it is still to do. A start makes up for what was missed meanwhile once, if it is not
older than the grace of `Jobs`.

A file that cannot be read or written stops nothing: jobs run, it is told once, and writing is tried
again until it succeeds. The position of a job whose plugin was removed stays, so that it goes on
from there if it comes back; one that nobody has loaded for a year is forgotten.

Who reads, who writes
---------------------

``_known`` is written and read by `Jobs`, under its lock. ``_changed`` and ``_is_over`` have a lock
of their own, which is held for a moment, and never while the file is used. The connection belongs
to the writer, and before it is started, to the constructor.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from math import isfinite
from time import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS job_position (job TEXT PRIMARY KEY, schedule TEXT NOT NULL, "
    "regular REAL, not_before REAL, is_done INTEGER NOT NULL, kept_at REAL NOT NULL)"
)
_FORGET: Final = "DELETE FROM job_position WHERE kept_at < ?"
_WRITE: Final = "INSERT OR REPLACE INTO job_position VALUES (?, ?, ?, ?, ?, ?)"
_READ: Final = "SELECT job, schedule, regular, not_before, is_done FROM job_position"
_KEPT_S: Final = 366 * 86400.0
_BUSY_S: Final = 5.0
_WRITE_BUSY_S: Final = 1.0  # it is tried again
# Between two writes: what ticks meanwhile is written together.
_PAUSE_S: Final = 0.05
_REMEDY: Final = "make room there, make it writable, or remove it if it is damaged"
_AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_TIMES: Final = (0.0, 253_370_764_800.0)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a job stands.

    Attributes:
        schedule: for which this holds.
        regular: the earliest tick that is not done, in seconds since the Unix epoch.
        not_before: what failures hold it back to; None for nothing.
        is_done: it is a one-shot, and has succeeded.
    """

    schedule: str
    regular: float | None
    not_before: float | None = None
    is_done: bool = False


class Positions:
    """The position of each job, by its full name.

    Args:
        path: of the file, which is made; None keeps them for this object's life only.
        tell: is told what is wrong with the file, in a sentence, from any thread.
    """

    def __init__(self, path: Path | None, tell: Callable[[str], object]) -> None:
        self._path: Final = path
        self._tell: Final = tell
        self._told = ""
        self._known: Final[dict[str, Position]] = {}
        self._changed: dict[str, Position] = {}
        self._is_over = False
        self._woken: Final = threading.Condition()
        self._writer: threading.Thread | None = None
        if path is not None:
            self._read(path)
            self._writer = threading.Thread(
                target=self._write_all, args=(path,), name="epochal-positions", daemon=True
            )
            self._writer.start()

    # --- for `Jobs`, under its lock ----------------------------------------------------------

    def of(self, job: str, schedule: str) -> Position | None:
        """Where a job stands; None if it is not known under that schedule."""
        known = self._known.get(job)
        return known if known is not None and known.schedule == schedule else None

    def keep(self, job: str, position: Position) -> None:
        """Keep where a job stands."""
        self._known[job] = position
        if self._path is not None:
            with self._woken:
                self._changed[job] = position
                self._woken.notify()

    def close(self, timeout: float | None = None) -> None:
        """Write what is not written yet, if it can be, and end; doing so again does nothing."""
        with self._woken:
            self._is_over = True
            self._woken.notify()
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
            self._fault(f"cannot be read, so every schedule begins anew: {error}")
            return
        for job, schedule, regular, not_before, is_done in rows:
            if _is_time(regular) or is_done:
                held = not_before if _is_time(not_before) else None
                self._known[job] = Position(schedule, regular, held, bool(is_done))

    def _write_all(self, path: Path) -> None:
        connection: sqlite3.Connection | None = None
        failures = 0
        while (changed := self._next()) is not None:
            try:
                if connection is None:
                    connection = _open(path)
                now = time()
                rows = [
                    (job, p.schedule, p.regular, p.not_before, p.is_done, now)
                    for job, p in changed.items()
                ]
                with connection:
                    connection.executemany(_WRITE, rows)
                failures, self._told = 0, ""
                wait_s = _PAUSE_S
            except sqlite3.Error as error:
                _close(connection)
                connection = None
                self._put_back(changed)
                self._fault(f"cannot be kept: {error}; {_REMEDY}")
                wait_s = _AGAIN_S[min(failures, len(_AGAIN_S) - 1)]
                failures += 1
            with self._woken:
                self._woken.wait_for(lambda: self._is_over, wait_s)
                if self._is_over and failures > 1:
                    break  # it was tried once more after the end was asked for
        _close(connection)

    def _next(self) -> dict[str, Position] | None:
        """What is to be written; None once there is nothing and it is over."""
        with self._woken:
            self._woken.wait_for(lambda: self._changed or self._is_over)
            changed, self._changed = self._changed, {}
            return changed or None

    def _put_back(self, changed: dict[str, Position]) -> None:
        with self._woken:
            self._changed = changed | self._changed

    def _fault(self, text: str) -> None:
        """Tell once, and not each time that it is tried again."""
        if text != self._told:
            self._told = text
            self._tell(f"the positions of jobs in {self._path} {text}; jobs run all the same")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WRITE_BUSY_S)
    try:
        with connection:
            connection.execute(_TABLE)
            connection.execute(_FORGET, (time() - _KEPT_S,))
    except BaseException:
        connection.close()
        raise
    return connection


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()


def _is_time(value: object) -> bool:
    first, last = _TIMES
    return isinstance(value, float) and isfinite(value) and first <= value < last
