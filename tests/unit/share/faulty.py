"""A share whose storage fails on demand: slow, full, read-only, with damaged files."""

import errno
import threading
import uuid
from typing import ClassVar

from fsspec.implementations.memory import MemoryFileSystem


class Faults:
    """What the storage of one test does."""

    def __init__(self):
        self.write_error = None
        self.read_error = None
        self.hang = None
        self.log = []

    def full(self):
        self.write_error = lambda: OSError(errno.ENOSPC, "No space left on device")

    def read_only(self):
        self.write_error = lambda: PermissionError(errno.EROFS, "Read-only file system")

    def slow(self):
        self.hang = threading.Event()


class FaultyFileSystem(MemoryFileSystem):
    protocol = "faulty"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    cachable = False
    faults = Faults()

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("faulty://").strip("/")

    def _at(self, verb, path):
        self.faults.log.append((verb, path.rpartition("/")[0].rpartition("/")[2]))
        if self.faults.hang is not None:
            self.faults.hang.wait(60)

    def pipe_file(self, path, value, **options):
        self._at("write", path)
        if self.faults.write_error is not None:
            raise self.faults.write_error()
        return super().pipe_file(path, value, **options)

    def cat_file(self, path, **options):
        self._at("read", path)
        error = self.faults.read_error and self.faults.read_error()
        if error is not None:
            raise error
        return super().cat_file(path, **options)

    def exists(self, path, **options):
        self._at("look", path)
        return super().exists(path, **options)

    def ls(self, path, **options):
        self._at("list", path + "/")
        return super().ls(path, **options)


def address():
    """A share of its own."""
    return f"faulty://{uuid.uuid4().hex}"
