"""A full, read-only or damaged disk: the store raises an error that names the file.

A running runtime goes on with its epoch; a starting one refuses to start.
"""

import errno
import os
import resource
import sqlite3
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.test_store import call, versioned

from epochal.artifact import read_artifact
from epochal.errors import (
    NotKeptError,
    RestoreError,
    StoreCorruptError,
    StoreError,
    StoreSchemaError,
    StoreWriteError,
)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@contextmanager
def refuses(rt, plugins, message, n=2):
    """In the block the store cannot be written: the change is refused, the old version goes on."""
    epoch = rt.epoch
    old = rt.generation("geo")
    path = versioned(plugins, n)
    artifact = read_artifact(path)
    try:
        with pytest.raises(StoreWriteError, match=message) as caught:
            yield lambda: rt.reload("geo", artifact)
        assert "nothing was changed" in str(caught.value)
        assert rt.epoch is epoch
        assert rt.generation("geo") is old
        assert old.state.name == "ACTIVE"
        assert call(rt) == 1
    finally:
        del epoch


def then_it_works(rt, plugins, start, n=2):
    """Without the fault the next change is stored, and nothing of the refused one is left."""
    number = rt.epoch.number
    rt.reload("geo", versioned(plugins, n))
    assert (call(rt), rt.epoch.number) == (n, number + 1)
    identity = rt.epoch.id
    rt.close()
    rt = start()
    assert (rt.epoch.id, call(rt)) == (identity, n)


# --- it cannot be written ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_e5_a_disk_that_fails_under_an_artifact_refuses_the_change(
    start,
    plugins,
    monkeypatch,
    name,
):
    rt = start()
    rt.load(versioned(plugins, 1))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with refuses(rt, plugins, "No space left") as reload, monkeypatch.context() as patch:
        patch.setattr(f"epochal._core.sync.durable_files.os.{name}", full)
        reload()
    then_it_works(rt, plugins, start)


def test_e5_a_file_system_limit_refuses_the_change(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with refuses(rt, plugins, "full|I/O|too large") as reload:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # less than the journal
        try:
            reload()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    then_it_works(rt, plugins, start)


def test_e5_a_full_database_refuses_the_change(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    run = rt._store._journal.connection.execute
    (pages,) = run("PRAGMA page_count").fetchone()
    (limit,) = run("PRAGMA max_page_count").fetchone()
    config = {"large": "x" * 100_000}
    with refuses(rt, plugins, "full"):
        run(f"PRAGMA max_page_count = {pages}")
        try:
            rt.reload("geo", config=config)
        finally:
            run(f"PRAGMA max_page_count = {limit}")
    then_it_works(rt, plugins, start)


def test_e5_a_database_that_cannot_be_written_refuses_the_change(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    run = rt._store._journal.connection.execute
    with refuses(rt, plugins, "readonly") as reload:
        run("PRAGMA query_only = ON")
        try:
            reload()
        finally:
            run("PRAGMA query_only = OFF")
    then_it_works(rt, plugins, start)


@contextmanager
def without_write_access(*folders):
    """Make these folders read-only for the process, even where the suite runs as superuser."""
    superuser = os.geteuid() == 0
    for folder in folders:
        folder.chmod(0o500)
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        for folder in folders:
            folder.chmod(0o700)


def test_e5_a_folder_that_became_read_only_refuses_the_change(start, plugins, store):
    rt = start()
    rt.load(versioned(plugins, 1))
    with (
        refuses(rt, plugins, "Permission denied") as reload,
        without_write_access(store / "artifacts"),
    ):
        reload()
    then_it_works(rt, plugins, start)


def test_a_refusal_that_cannot_be_stored_has_a_note(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    run = rt._store._journal.connection.execute
    run("PRAGMA query_only = ON")
    with pytest.raises(StoreWriteError) as caught:
        rt.reload("geo", versioned(plugins, 2))
    run("PRAGMA query_only = OFF")
    assert any("not in the audit log" in note for note in caught.value.__notes__)


def test_a_store_that_cannot_be_made_is_named(start, store):
    store.write_text("not a folder")
    with pytest.raises(StoreWriteError, match=str(store)) as caught:
        start()
    assert caught.value.path == str(store)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            without_write_access(folder),
            pytest.raises(StoreWriteError, match="Permission denied"),
        ):
            from epochal import Runtime

            Runtime(store=folder / "store")


def test_stored_files_are_readable_by_their_owner_alone(start, plugins, store):
    rt = start()
    rt.load(versioned(plugins, 1), config={"password": "secret"})
    paths = [store, *store.rglob("*")]
    assert len(paths) >= 7
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


# --- it is damaged ---------------------------------------------------------------------------


def damage(path, at=0, content=b"#"):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def artifact_of(rt, store, plugin="geo"):
    return store / "artifacts" / rt.generation(plugin).digest


@pytest.mark.parametrize("how", ["changed", "cut off", "gone"])
def test_e8_a_damaged_artifact_is_named_and_never_run(start, plugins, store, how):
    rt = start()
    rt.load(versioned(plugins, 1))
    rt.load(versioned(plugins, 1, "units"))
    path = artifact_of(rt, store)
    rt.close()
    whole = path.read_bytes()
    if how == "changed":
        damage(path, len(whole) - 2, b"7")  # return 7: it would run
    elif how == "cut off":
        os.truncate(path, len(whole) // 2)
    else:
        path.unlink()
    with pytest.raises(RestoreError, match=path.name) as caught:
        start()
    assert isinstance(caught.value.__cause__, StoreCorruptError)
    assert caught.value.__cause__.path == str(path)
    assert caught.value.plugin == "geo"
    rt = start(restore="available")
    assert set(rt.epoch.generations) == {"units"}
    with pytest.raises(StoreCorruptError, match=path.name):
        rt.rollback("geo", to=0)
    path.write_bytes(whole)  # back from a backup
    rt.rollback("geo", to=0)
    assert call(rt) == 1


def test_e8_changed_configuration_is_detected(start, plugins, store):
    rt = start()
    rt.load(versioned(plugins, 1), config={"limit": 10})
    rt.close()
    with sqlite3.connect(store / "journal.db") as db:
        db.execute("""UPDATE generation SET config = '{"limit": 1000}'""")
    db.close()
    with pytest.raises(RestoreError, match=r"journal\.db is damaged.*configuration"):
        start()


def test_e8_a_generation_missing_from_the_journal_is_detected(start, plugins, store):
    rt = start()
    rt.load(versioned(plugins, 1))
    rt.load(versioned(plugins, 1, "units"))
    rt.close()
    with sqlite3.connect(store / "journal.db") as db:
        db.execute("DELETE FROM generation WHERE plugin = 'units'")
    db.close()
    with pytest.raises(RestoreError, match="its id differs"):
        start()


@pytest.mark.parametrize("at", [0, 4096])
@pytest.mark.parametrize("mode", ["strict", "available"])
def test_a_damaged_journal_stops_the_start_and_is_named(
    start,
    plugins,
    store,
    at,
    mode,
):
    rt = start()
    rt.load(versioned(plugins, 1))
    rt.close()
    damage(store / "journal.db", at, b"\xff" * 4096)
    with pytest.raises(StoreCorruptError, match=r"journal\.db is damaged") as caught:
        start(restore=mode)
    assert caught.value.path == str(store / "journal.db")


def crashed(start, plugins, store):
    """A store of three epochs as a crash leaves it: the last commits are in the -wal file."""
    import shutil

    rt = start()
    for n in (1, 2, 3):
        rt.reload("geo", versioned(plugins, n)) if n > 1 else rt.load(versioned(plugins, n))
    copy = store.with_name("copy")
    shutil.copytree(store, copy)
    rt.close()
    shutil.rmtree(store)
    copy.rename(store)
    return store / "journal.db-wal"


def test_a_journal_that_lost_its_end_is_detected(start, plugins, store):
    wal = crashed(start, plugins, store)
    os.truncate(wal, wal.stat().st_size - 100)
    with pytest.raises(StoreCorruptError, match="epoch 3 was committed, the last that is there is"):
        start()
    rt = start(restore="available")
    assert (rt.epoch.number, call(rt)) == (2, 2)
    assert rt.generation("geo").number >= 3, "the lost epoch's number is not given out again"
    rt.reload("geo", versioned(plugins, 4))
    rt.close()
    assert call(start()) == 4


@pytest.mark.parametrize("name", ["journal.db-wal", "journal.db"])
def test_a_missing_journal_is_detected(start, plugins, store, name):
    crashed(start, plugins, store)
    for path in store.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(StoreError, match=r"journal\.db"):
        start()


def test_a_crash_without_damage_needs_no_repair(start, plugins, store):
    crashed(start, plugins, store)
    (store / "head").write_bytes(b"")  # a power cut may leave it so
    rt = start()
    assert (rt.epoch.number, call(rt)) == (3, 3)


def test_a_store_of_a_later_version_is_refused(start, store):
    start().close()
    with sqlite3.connect(store / "journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreSchemaError, match="schema 99, this version of Epochal knows 1"):
        start()


def test_another_writers_epoch_is_not_overwritten(
    start,
    plugins,
    store,
):
    rt = start()
    rt.load(versioned(plugins, 1))
    with sqlite3.connect(store / "journal.db") as db:
        db.execute("INSERT INTO epoch VALUES (2, 'x', 0, 'by hand')")
    db.close()
    epoch = rt.epoch
    with pytest.raises(StoreError, match="something else has written there"):
        rt.reload("geo", versioned(plugins, 2))
    assert rt.epoch is epoch


def test_a_damaged_history_does_not_stop_the_current_epoch(
    start,
    plugins,
    store,
):
    rt = start()
    rt.load(versioned(plugins, 1))
    path = artifact_of(rt, store)
    rt.reload("geo", versioned(plugins, 2))
    rt.close()
    path.unlink()
    rt = start()
    assert call(rt) == 2
    with pytest.raises(StoreCorruptError, match=path.name):
        rt.rollback("geo", to="1.0")
    with pytest.raises(NotKeptError):
        rt.rollback("geo", to="9.0")
    assert call(rt) == 2
