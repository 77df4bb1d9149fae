"""Files are whole or absent, only their owner reads them, and one process at a time locks them."""

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from epochal._core.sync import durable_files
from epochal._core.sync.durable_files import (
    UNFINISHED,
    FileLock,
    make_folder,
    sync_all,
    touch,
    write_durably,
)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_whole_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "head"
    write_durably(path, b"one")
    write_durably(path, b"another")
    assert path.read_bytes() == b"another"
    assert mode_of(path) == 0o600
    assert [child.name for child in tmp_path.iterdir()] == ["head"]


def test_a_failed_write_leaves_the_file_before_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "head"
    write_durably(path, b"one")

    def full(file):
        raise OSError(28, "no space left")

    monkeypatch.setattr(durable_files.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_durably(path, b"another")
    assert path.read_bytes() == b"one"
    assert not list(tmp_path.glob(f"*{UNFINISHED}"))


def test_the_content_is_synced_before_it_has_its_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(durable_files.os, "fsync", lambda f: (steps.append("sync"), fsync(f)))
    monkeypatch.setattr(
        durable_files.os, "replace", lambda a, b: (steps.append("rename"), replace(a, b))
    )
    write_durably(tmp_path / "head", b"one")
    assert steps == ["sync", "rename"]


def test_everything_in_a_folder_is_synced_contents_first(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("x")
    synced = []
    monkeypatch.setattr(
        durable_files.os,
        "fsync",
        lambda file: synced.append(
            os.fstat(file if isinstance(file, int) else file.fileno()).st_ino
        ),
    )
    sync_all(tmp_path)
    paths = (tmp_path / "inner" / "file", tmp_path / "inner", tmp_path)
    assert synced == [path.stat().st_ino for path in paths]


def test_folders_and_empty_files_are_private_and_made_once(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
        touch(tmp_path / "a" / "b" / "lock")
    assert mode_of(tmp_path / "a" / "b") == 0o700
    assert mode_of(tmp_path / "a" / "b" / "lock") == 0o600


@pytest.fixture
def path(tmp_path):
    touch(tmp_path / "lock")
    return tmp_path / "lock"


def test_an_exclusive_lock_refuses_every_other(path):
    lock = FileLock(path)
    for shared in (False, True):
        with pytest.raises(BlockingIOError):
            FileLock(path, shared=shared)
    lock.release()
    lock.release()
    FileLock(path).release()


def test_shared_locks_hold_together_and_refuse_an_exclusive_one(path):
    locks = [FileLock(path, shared=True) for _ in range(3)]
    with pytest.raises(BlockingIOError):
        FileLock(path)
    for lock in locks:
        lock.release()
    FileLock(path).release()


def test_a_missing_file_and_a_file_of_another_kind_raise_different_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "nowhere")
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        FileLock(tmp_path / "text")


def test_a_lock_ends_with_its_process(path):
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from epochal._core.sync.durable_files import FileLock\n"
        "lock = FileLock(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
        "os._exit(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            FileLock(path)
        process.stdin.close()
        assert process.wait(30) == 9
    FileLock(path).release()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_release_in_a_fork_leaves_the_parents_lock(path):
    lock = FileLock(path)
    pid = os.fork()
    if pid == 0:
        lock.release()
        os._exit(0)
    os.waitpid(pid, 0)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\n"
            "from epochal._core.sync.durable_files import FileLock\n"
            "try: FileLock(Path(sys.argv[1]))\nexcept BlockingIOError: print('held')",
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "held\n"
    lock.release()
