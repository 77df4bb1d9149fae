"""One process at a time locks a file; its lock ends with it, and with nothing else."""

import os
import subprocess
import sys

import pytest

from epochal._core.sync.durable_files import touch
from epochal._core.sync.file_lock import FileLock

TRY = """
import sys
from pathlib import Path
from epochal._core.sync.file_lock import FileLock
try:
    FileLock(Path(sys.argv[1]))
except BlockingIOError:
    print("held")
"""


def held_for_others(path):
    """Whether another process finds the file locked."""
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout == "held\n"


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


def test_a_missing_file_cannot_be_locked(tmp_path):
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "nowhere")


def test_a_file_that_is_read_by_its_own_process_stays_locked(path):
    with_lock = FileLock(path)
    assert path.read_bytes() == b"", "a POSIX lock is gone once this has closed the file"
    assert held_for_others(path)
    with_lock.release()
    assert not held_for_others(path)


def test_a_lock_on_a_file_that_was_removed_is_none(path):
    remover = FileLock(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        FileLock(path)
    touch(path)
    FileLock(path).release()
    remover.release()


def test_a_lock_that_is_let_go_is_released(path):
    FileLock(path)
    assert not held_for_others(path)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock_of_a_parent_that_died(path):
    script = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from epochal._core.sync.file_lock import FileLock\n"
        "lock = FileLock(Path(sys.argv[1]))\nread, write = os.pipe()\n"
        "if os.fork() == 0:\n    os.write(write, b'x')\n    sys.stdin.read()\n    os._exit(0)\n"
        "os.read(read, 1)\nprint('forked', flush=True)\nos._exit(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "forked\n"
        assert process.wait(30) == 9
        assert not held_for_others(path), "the child lives on, without the lock"
        process.stdin.close()


def test_a_lock_ends_with_its_process(path):
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from epochal._core.sync.file_lock import FileLock\n"
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
    assert held_for_others(path)
    lock.release()
