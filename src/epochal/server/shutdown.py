"""Stopping the service, from the first signal to the end of the process.

The first SIGINT, SIGTERM or SIGHUP ends the service in order. That may take a while: requests,
jobs, queries and drains each have their time. Signals are counted until all of it is over: the
second one logs what a third would do, and the third leaves at once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from epochal.server.problem_details import logger

if TYPE_CHECKING:
    from types import FrameType

_ALWAYS: Final = (signal.SIGINT, signal.SIGTERM)
_SIGNALS: Final = (
    *_ALWAYS,
    # The terminal is gone; under nohup it is ignored, and stays so. Windows has none.
    *((signal.SIGHUP,) if sys.platform != "win32" else ()),
)
_LAST: Final = 3
_EXIT_STATUS: Final = 1
_JOIN_S: Final = 1.0
_LAST_WORDS_S: Final = 1.0


class StopSignals:
    """Counts stop signals, where that is possible, for the time of a `with` block.

    A thread of its own counts them. The interpreter runs signal handlers in the main thread alone,
    when that executes Python code again: never, where a signal comes just as the thread begins to
    wait for a lock, or where it is stuck in native code.

    Attributes:
        is_requested: whether the service is to stop; written by that thread, polled by the event
            loop.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._count = 0  # the thread's own
        self._undo: Final = ExitStack()

    def __enter__(self) -> StopSignals:
        # The interpreter lets no other thread set handlers: there the host stops the service.
        if threading.current_thread() is threading.main_thread():
            with ExitStack() as undo:
                self._listen(undo)
                self._undo.push(undo.pop_all())
        return self

    def __exit__(self, *exc: object) -> None:
        self._undo.close()

    def _listen(self, undo: ExitStack) -> None:
        # Undone in reverse: the handlers first, then the wake-up, then the socket whose end ends
        # the thread. A signal never finds a handler without a reader.
        reader, writer = socket.socketpair()
        writer.setblocking(False)  # a signal must not wait for a full buffer
        thread = threading.Thread(
            target=self._read_all, args=(reader,), name="signals", daemon=True
        )
        thread.start()
        undo.callback(thread.join, _JOIN_S)
        undo.callback(writer.close)
        if sys.platform == "win32":  # its event loop has the interpreter's wake-up for itself
            handler = partial(_forward, writer)
        else:
            undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno()))
            handler = _ignore
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN and number not in _ALWAYS:
                continue
            undo.callback(signal.signal, number, signal.signal(number, handler))

    def _read_all(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(1):
                if numbers[0] in _SIGNALS:
                    self._receive(signal.Signals(numbers[0]).name)

    def _receive(self, name: str) -> None:
        self.is_requested = True
        self._count += 1
        if self._count == 1:
            logger.info("%s: stopping; running requests are given their time", name)
        elif self._count < _LAST:
            logger.warning("%s again: still stopping; once more leaves at once", name)
        else:
            # Before the last line: a stuck thread may hold the log's lock, and a full pipe that
            # nothing reads blocks the write.
            late = threading.Timer(_LAST_WORDS_S, os._exit, (_EXIT_STATUS,))
            late.daemon = True
            late.start()
            try:
                logger.error("%s again: leaving at once; plugins are not shut down", name)
                logging.shutdown()
                sys.stdout.flush()
            finally:
                os._exit(_EXIT_STATUS)


def _ignore(number: int, _: FrameType | None) -> None:
    """Do nothing: without a Python handler the interpreter writes no wake-up byte."""


def _forward(writer: socket.socket, number: int, _: FrameType | None) -> None:
    writer.send(bytes([number]))
