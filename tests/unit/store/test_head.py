"""The file `head`: the last epoch's number, which may be unreadable but never ahead."""

import errno
import os

import pytest

from epochal.store.head import Head


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def head(tmp_path, warnings):
    head = Head(tmp_path / "head", warnings.append)
    yield head
    head.close()


def test_a_new_file_has_no_number(head):
    assert head.read() is None


def test_a_smaller_number_replaces_a_larger_one(head):
    for number in (7, 123_456, 8):
        head.note(number)
        assert head.read() == number


@pytest.mark.parametrize("content", [b"", b"00000x", b"\0" * 21])
def test_an_unreadable_number_is_none(head, tmp_path, content):
    head.note(7)
    (tmp_path / "head").write_bytes(content)
    assert head.read() is None


def test_a_failing_write_is_a_warning(head, warnings, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("epochal.store.head.os.write", full)
    head.note(7)
    monkeypatch.undo()
    assert len(warnings) == 1
    assert "head cannot be written: No space left" in warnings[0]


def test_closing_twice_is_harmless(tmp_path, warnings):
    head = Head(tmp_path / "head", warnings.append)
    head.close()
    head.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(head._file)
