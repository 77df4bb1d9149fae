"""Positions: written a moment later by one thread, which reports a file that fails."""

import sqlite3
import threading
from contextlib import closing
from queue import SimpleQueue

import pytest

from epochal.jobs import positions as module
from epochal.jobs.positions import Position, Positions

HERE = Position("every 5 s", 1_800_000_000.0)


@pytest.fixture
def faults():
    return SimpleQueue()


def stored(path):
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT job, regular FROM job_position ORDER BY job").fetchall()


def reopened(path, faults):
    again = Positions(path, faults.put)
    again.close()
    return again


def test_positions_survive_a_restart(tmp_path, faults):
    path = tmp_path / "jobs.db"
    first = Positions(path, faults.put)
    done = Position("at 2027", None, None, is_done=True)
    held = Position("every 5 s", 1_800_000_000.0, 1_800_000_060.0)
    first.put("a.b", held)
    first.put("a.once", done)
    first.close()
    again = reopened(path, faults)
    assert again.get("a.b", "every 5 s") == held
    assert again.get("a.once", "at 2027") == done
    assert again.get("a.b", "every 6 s") is None
    assert faults.empty()


def test_without_a_file_positions_are_in_memory(faults):
    positions = Positions(None, faults.put)
    positions.put("a.b", HERE)
    positions.close()
    assert positions.get("a.b", "every 5 s") == HERE


def test_only_the_last_position_of_a_job_is_written(tmp_path, faults, monkeypatch):
    written = []
    ready = threading.Event()
    open_file = module._open

    class Noting:
        def __init__(self, connection):
            self.real = connection

        def executemany(self, sql, rows):
            written.append(len(rows))
            self.real.executemany(sql, rows)

        def __enter__(self):
            return self.real.__enter__()

        def __exit__(self, *error):
            return self.real.__exit__(*error)

        def close(self):
            self.real.close()

    def slow(path):
        ready.wait(10)
        return Noting(open_file(path))

    monkeypatch.setattr(module, "_open", slow)
    positions = Positions(tmp_path / "jobs.db", faults.put)
    for number in range(1000):
        positions.put(f"a.{number % 10}", Position("every 5 s", 1_800_000_000.0 + number))
    ready.set()
    positions.close()
    assert sum(written) <= 20
    assert stored(tmp_path / "jobs.db")[9] == ("a.9", 1_800_000_999.0)


def test_a_file_that_cannot_be_written_is_reported_once_and_written_later(tmp_path, faults):
    folder = tmp_path / "there"
    positions = Positions(folder / "jobs.db", faults.put)
    positions.put("a.b", HERE)
    assert "cannot be kept: unable to open database file; make room" in faults.get(timeout=10)
    folder.mkdir()
    positions.put("a.c", HERE)
    positions.close()
    assert [job for job, _ in stored(folder / "jobs.db")] == ["a.b", "a.c"]
    assert faults.empty()


def test_close_gives_up_on_a_file_that_cannot_be_written(tmp_path, faults):
    positions = Positions(tmp_path / "nowhere" / "jobs.db", faults.put)
    positions.put("a.b", HERE)
    positions.close()
    assert "cannot be kept" in faults.get(timeout=10)


@pytest.mark.parametrize(
    "row",
    [
        ("'every 5 s'", "NULL", 0),
        ("'every 5 s'", "-1.0", 0),
        ("'every 5 s'", "1e300", 0),
        ("'every 5 s'", "9e999", 0),
        ("'every 5 s'", "'soon'", 0),
    ],
)
def test_an_invalid_row_is_no_position(tmp_path, faults, row):
    path = tmp_path / "jobs.db"
    first = Positions(path, faults.put)
    first.put("a.b", HERE)
    first.close()
    schedule, regular, done = row
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE job_position SET schedule={schedule}, regular={regular}")
        file.execute(f"UPDATE job_position SET is_done={done}")
    assert reopened(path, faults).get("a.b", "every 5 s") is None


def test_a_start_with_a_wrong_clock_deletes_no_position(tmp_path, faults, monkeypatch):
    path, now, year = tmp_path / "jobs.db", 1.8e9, 366 * 86400.0

    def start(at):
        monkeypatch.setattr("epochal.jobs.positions.time", lambda: at)
        positions = Positions(path, faults.put)
        positions.put("new.b", HERE)
        positions.close()
        return [job for job, _ in stored(path)]

    monkeypatch.setattr("epochal.jobs.positions.time", lambda: now)
    first = Positions(path, faults.put)
    first.put("a.b", HERE)
    first.close()
    for wrong in (now + 3 * year, now + 3 * year + 60.0, now + 60.0):
        assert start(wrong) == ["a.b", "new.b"]
    for month in range(1, 12):
        assert start(now + month * 30 * 86400.0) == ["a.b", "new.b"]
    assert start(now + 13 * 30 * 86400.0) == ["a.b", "new.b"]
    assert start(now - year) == ["a.b", "new.b"]
    assert start(now + 13 * 30 * 86400.0) == ["a.b", "new.b"]
    for month in range(14, 40):
        left = start(now + month * 30 * 86400.0)
    assert left == ["new.b"]


def test_a_position_that_is_a_year_old_is_deleted(tmp_path, faults):
    path = tmp_path / "jobs.db"
    first = Positions(path, faults.put)
    first.put("a.b", HERE)
    first.put("old.b", HERE)
    first.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE job_position SET kept_at = 0 WHERE job = 'old.b'")
    again = Positions(path, faults.put)
    again.put("a.b", HERE)
    again.close()
    assert [job for job, _ in stored(path)] == ["a.b"]
