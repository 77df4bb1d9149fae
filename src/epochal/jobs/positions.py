"""Where each job stands in its schedule, kept in the store's folder from run to run.

A position is written when a job is first scheduled, and when a tick has ended, not when it begins:
a tick that the process died in is run again at the next start, and none is skipped.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from epochal.errors import StoreWriteError

if TYPE_CHECKING:
    from pathlib import Path


class Positions:
    """The next time of each job, by its full name; one caller at a time.

    Args:
        path: of the file, which is made; None keeps nothing.

    Raises:
        StoreWriteError: it cannot be opened.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path | None) -> None:
        self._path: Final = path
        if path is not None:
            self._run(
                "CREATE TABLE IF NOT EXISTS position "
                "(job TEXT PRIMARY KEY, schedule TEXT NOT NULL, next REAL)"
            )

    def read(self, job: str, schedule: str) -> tuple[bool, float | None]:
        """Where a job stands.

        Returns:
            Whether it is known under that schedule, and its next time in seconds since the Unix
            epoch; None where there is no further one.
        """
        if self._path is None:
            return False, None
        rows = self._run("SELECT schedule, next FROM position WHERE job = ?", job)
        known = bool(rows) and rows[0][0] == schedule
        return known, rows[0][1] if known else None

    def write(self, job: str, schedule: str, at: float | None) -> None:
        """Keep where a job stands."""
        if self._path is not None:
            self._run("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", job, schedule, at)

    def _run(self, sql: str, *values: object) -> list[tuple[str, float | None]]:
        # A connection for each: ticks run on many threads, and a write is rarer than a tick.
        assert self._path is not None
        try:
            with closing(sqlite3.connect(self._path, timeout=5.0)) as connection, connection:
                return connection.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise StoreWriteError(
                f"the positions of jobs in {self._path} cannot be kept: {error}; make room there, "
                "or make it writable",
                path=self._path,
            ) from error
