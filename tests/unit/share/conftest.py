"""Shares on several storages, and a clock."""

import uuid

import fsspec
import pytest
from tests.unit.share.faulty import Faults, FaultyFileSystem, address

fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


@pytest.fixture
def faults(monkeypatch):
    made = Faults()
    monkeypatch.setattr(FaultyFileSystem, "faults", made)
    yield made
    made.write_error = made.read_error = None
    if made.hang is not None:
        made.hang.set()


@pytest.fixture
def faulty(faults):
    return address()


@pytest.fixture(params=["folder", "memory"])
def url(request, tmp_path):
    return str(tmp_path / "share") if request.param == "folder" else f"memory://{uuid.uuid4().hex}"


class Clock:
    def __init__(self):
        import time

        self.ahead = 0.0
        self._time = time.time

    def __call__(self):
        return self._time() + self.ahead


@pytest.fixture
def clock():
    return Clock()
