"""Shared by the SQL tests: plugin files, gates inside plugin functions, tables of whole batches."""

import textwrap
import threading

import pyarrow as pa

HEADER = """\
# /// plugin
# id = "{id}"
# version = "{version}"
# ///
import threading
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, NamedTuple, TypedDict
import pyarrow as pa
import pyarrow.compute as pc
from epochal.kinds import aggregate, scalar, table_function, window
from tests.unit.sql.support import HOST, gate

"""

MONEY = """\
@data_type
class Money:
    storage = pa.int64()
    parameters = {}
    samples = [5.0]
    @staticmethod
    def encode(value): return int(value * 100)
    @staticmethod
    def decode(cents): return cents / 100
"""
"""A data type of a plugin: whole cents to the engine."""

BATCH = 8192
"""Rows in a batch of the engine's."""

LIMIT_S = 20.0
"""The limit of every wait in a test; only a broken test comes near it."""

HOST = {"shutdowns": [], "used_late": []}
"""Plugins record their shutdowns here."""

_gates = {}


class Gate:
    """A point in a plugin's function at which a test holds it."""

    def __init__(self):
        self._arrived = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self):
        self._arrived.release()
        assert self._open.wait(LIMIT_S), "the test never opened the gate"

    def wait_arrived(self):
        assert self._arrived.acquire(timeout=LIMIT_S), "no call reached the gate"

    def open(self):
        self._open.set()


def gate(name):
    """The gate of that name, made at the first call."""
    return _gates.setdefault(name, Gate())


def shut_gates():
    """Begin a test: shut every gate, forget the records."""
    _gates.clear()
    HOST["shutdowns"].clear()
    HOST["used_late"].clear()


def open_gates():
    """End a test: open the gates."""
    for name in ("waits", "gated", "endless"):
        gate(name).open()


def write(folder, plugin, code, version="1.0"):
    """Write a plugin in one file; returns its path."""
    path = folder / f"{plugin}.py"
    path.write_text(HEADER.format(id=plugin, version=version) + textwrap.dedent(code))
    return path


def numbers(batches=1, extra=0):
    """A table of whole batches with one column `n`: 0, 1, 2 …"""
    return pa.table({"n": pa.array(range(batches * BATCH + extra), pa.int64())})


def settled(reload):
    """Assert that a cutover was drained and reclaimed; the message has the holders and leaks."""
    assert reload.drained, reload.holders
    assert reload.reclaimed, reload.leaks
    return reload
