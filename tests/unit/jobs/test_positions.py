"""Positions: kept a moment later by one thread, told of when they cannot be."""

import sqlite3
import threading
from contextlib import closing
from queue import SimpleQueue

import pytest

from epochal.jobs import positions as module
from epochal.jobs.positions import Position, Positions

HERE = Position("every 5 s", 1_800_000_000.0)


@pytest.fixture
def told():
    return SimpleQueue()


def kept(path):
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT job, regular FROM job_position ORDER BY job").fetchall()


def reopened(path, told):
    again = Positions(path, told.put)
    again.close()
    return again


def test_what_was_kept_is_there_again(tmp_path, told):
    path = tmp_path / "jobs.db"
    first = Positions(path, told.put)
    done = Position("at 2027", None, None, is_done=True)
    held = Position("every 5 s", 1_800_000_000.0, 1_800_000_060.0)
    first.keep("a.b", held)
    first.keep("a.once", done)
    first.close()
    again = reopened(path, told)
    assert again.of("a.b", "every 5 s") == held
    assert again.of("a.once", "at 2027") == done
    assert again.of("a.b", "every 6 s") is None
    assert told.empty()


def test_without_a_file_they_are_kept_in_memory(told):
    here = Positions(None, told.put)
    here.keep("a.b", HERE)
    here.close()
    assert here.of("a.b", "every 5 s") == HERE


def test_of_one_job_the_last_is_written_and_all_at_once(tmp_path, told, monkeypatch):
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
    here = Positions(tmp_path / "jobs.db", told.put)
    for number in range(1000):
        here.keep(f"a.{number % 10}", Position("every 5 s", 1_800_000_000.0 + number))
    ready.set()
    here.close()
    assert sum(written) <= 20
    assert kept(tmp_path / "jobs.db")[9] == ("a.9", 1_800_000_999.0)


def test_a_file_that_cannot_be_written_is_told_once_and_written_when_it_can(tmp_path, told):
    folder = tmp_path / "there"
    here = Positions(folder / "jobs.db", told.put)
    here.keep("a.b", HERE)
    assert "cannot be kept: unable to open database file; make room" in told.get(timeout=10)
    folder.mkdir()
    here.keep("a.c", HERE)
    here.close()
    assert [job for job, _ in kept(folder / "jobs.db")] == ["a.b", "a.c"]
    assert told.empty()


def test_closing_gives_up_on_a_file_that_cannot_be_written(tmp_path, told):
    here = Positions(tmp_path / "nowhere" / "jobs.db", told.put)
    here.keep("a.b", HERE)
    here.close()
    assert "cannot be kept" in told.get(timeout=10)


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
def test_nonsense_is_no_position(tmp_path, told, row):
    path = tmp_path / "jobs.db"
    first = Positions(path, told.put)
    first.keep("a.b", HERE)
    first.close()
    schedule, regular, done = row
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE job_position SET schedule={schedule}, regular={regular}")
        file.execute(f"UPDATE job_position SET is_done={done}")
    assert reopened(path, told).of("a.b", "every 5 s") is None


def test_what_nobody_has_loaded_for_a_year_is_forgotten(tmp_path, told):
    path = tmp_path / "jobs.db"
    first = Positions(path, told.put)
    first.keep("a.b", HERE)
    first.keep("old.b", HERE)
    first.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE job_position SET kept_at = 0 WHERE job = 'old.b'")
    again = Positions(path, told.put)
    again.keep("a.b", HERE)
    again.close()
    assert [job for job, _ in kept(path)] == ["a.b"]
