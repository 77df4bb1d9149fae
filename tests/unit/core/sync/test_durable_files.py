"""Files are whole or absent, and only their owner reads them."""

import os
import stat
import threading

import pytest

from epochal._core.sync import durable_files
from epochal._core.sync.durable_files import (
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
    assert [child.name for child in tmp_path.iterdir()] == ["head"]


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


def test_of_several_writers_at_once_each_writes_a_whole_file(tmp_path):
    path, failed, begin = tmp_path / "head", [], threading.Barrier(5)
    contents = [bytes([65 + n]) * 50_000 for n in range(4)]

    def write(content):
        begin.wait()
        try:
            for _ in range(20):
                write_durably(path, content)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    path.write_bytes(contents[0])
    begin.wait()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert not failed
    assert [child.name for child in tmp_path.iterdir()] == ["head"]
