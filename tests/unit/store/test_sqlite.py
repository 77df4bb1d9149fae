"""The journal's file: its transactions, and SQLite's errors as the store's."""

import sqlite3
import stat

import pytest

from epochal.errors import StoreCorruptError, StoreWriteError
from epochal.store.sqlite import JournalFile, store_errors


@pytest.fixture
def journal(tmp_path):
    journal = JournalFile(tmp_path / "journal.db")
    yield journal
    journal.close()


def plugins(journal):
    return [row["plugin"] for row in journal.connection.execute("SELECT plugin FROM number")]


def test_a_transaction_is_committed_at_its_end(journal):
    with journal.transaction() as db:
        db.execute("INSERT INTO number VALUES ('geo', 1)")
    assert not journal.connection.in_transaction
    assert plugins(journal) == ["geo"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_transaction_that_raises_is_rolled_back(journal, error):
    with pytest.raises(error), journal.transaction() as db:
        db.execute("INSERT INTO number VALUES ('geo', 1)")
        raise error
    assert not journal.connection.in_transaction
    assert plugins(journal) == []


def test_the_file_is_its_owners_alone(journal):
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database, but long enough for a header" * 100)
    with pytest.raises(StoreCorruptError, match=r"journal\.db is damaged"):
        JournalFile(path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (sqlite3.OperationalError("database is locked"), "cannot read in .*here: database is lock"),
        (PermissionError(13, "Permission denied", "there"), "cannot read in there: Permission"),
        (OSError("broken"), "cannot read in .*here: broken"),
    ],
)
def test_other_errors_name_the_action_and_the_file(tmp_path, error, message):
    with pytest.raises(StoreWriteError, match=message), store_errors("read", tmp_path / "here"):
        raise error


def test_errors_of_plugins_pass_through(tmp_path):
    with pytest.raises(ValueError, match="mine"), store_errors("read", tmp_path):
        raise ValueError("mine")
