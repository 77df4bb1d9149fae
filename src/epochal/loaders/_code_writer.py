"""Keeps the compiled code of Python modules in the store, off the way of every change.

A module that was compiled in this process is compiled once more for the store, by a helper process
of its own: it takes none of the interpreter's lock, no change waits for it, and a source that makes
the compiler warn is never kept, so the warning comes with each start. One thread does this, for as
long as there is work.

Threads: loading threads append to ``_pending``; the one that has ``_turn`` takes out of it. It is
never waited for but by `close`, and in a forked child, whose copy may be taken for ever, not even
there.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from importlib.util import MAGIC_NUMBER
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.sync.threads import start_thread
from epochal.errors import NoThreadError
from epochal.loaders._compiler import Compiler

if TYPE_CHECKING:
    from epochal.loaders._kept_code import KeptCode

_QUIET_S: Final = 1.0
"""From the first module to the first write: a change, or a start, is over by then."""

_CLOSE_S: Final = 2.0
"""What is not written so long after the beginning of `close` is compiled by the next start."""

_COMPILER: Final = repr(("python", sys.version, MAGIC_NUMBER, sys.flags.optimize))


class CodeWriter:
    """The compiled Python code of one store; implements `CodeStore` of the compiler.

    Args:
        kept: its folder.
    """

    def __init__(self, kept: KeptCode) -> None:
        self._kept: Final = kept
        self._pending: Final[deque[tuple[str, bytes, bytes]]] = deque()
        self._turn: Final = threading.Lock()
        self._until = math.inf
        self._closing: Final = threading.Lock()  # released by `close`: the writer need not wait
        self._closing.acquire()
        self._pid: Final = os.getpid()

    def read(self, digest: str) -> bytes | None:
        """The compiled module of a source, in the format of `marshal`; None if it is not kept."""
        return self._kept.read(digest, _COMPILER)

    def write_soon(self, digest: str, source: bytes, dumped: bytes) -> None:
        """Keep a compiled module.

        Args:
            digest: the SHA-256 of its source.
            source: the source.
            dumped: in the format of `marshal`; empty to have it compiled.
        """
        if self._until == math.inf:
            self._pending.append((digest, source, dumped))
            self._begin()

    def close(self) -> None:
        """Write what is left, and write nothing more. Idempotent."""
        self._until = min(self._until, monotonic() + _CLOSE_S)
        with suppress(RuntimeError):  # it was closed before
            self._closing.release()
        if self._pid == os.getpid() and self._turn.acquire(timeout=_CLOSE_S):
            try:
                self._write()
            finally:
                self._turn.release()

    def _begin(self) -> None:
        if self._pending and self._turn.acquire(blocking=False):
            try:
                start_thread(self._work, name="epochal-compiled-code")
            except BaseException as error:
                self._turn.release()
                if not isinstance(error, NoThreadError):  # the next module tries again
                    raise

    def _work(self) -> None:
        try:
            if self._closing.acquire(timeout=_QUIET_S):
                self._closing.release()
            self._write()
        finally:
            self._turn.release()
        if monotonic() < self._until:
            self._begin()  # for a module that came after the last look

    def _write(self) -> None:
        compiler = Compiler()
        try:
            while self._pending:
                digest, source, dumped = self._pending.popleft()
                if monotonic() < self._until:
                    dumped = dumped or compiler.dump(source)
                if dumped and monotonic() < self._until:
                    self._kept.write(digest, _COMPILER, dumped)
                    if not self._pending:
                        self._kept.trim()
        except OSError:
            # The rest would fail alike. A store that cannot be written to refuses the change where
            # it stores the epoch.
            self._pending.clear()
        finally:
            compiler.close()
