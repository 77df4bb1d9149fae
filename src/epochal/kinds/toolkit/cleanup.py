"""Ends what plugins made, on threads of ours.

The problem: what a plugin gave to a host, a scan that is under way or an index that another has
taken the place of, is let go by whoever happens to: an event loop that closes a result, the
collector inside anybody's allocation. Its end is plugin code (a `close()`, the `finally:` of a
generator), which may take its time, or fail.

The idea: whoever lets go only says so, by one `SimpleQueue.put`, which may be done anywhere. A
thread takes what was put, runs its end, and lets it go: until then it holds its plugin in use, so
the plugin is not shut down before.

Who reads, who writes
---------------------

``_queue`` is put into by anybody and read by the threads. ``_idle`` is a list used from both sides
by the threads: `append` and `pop` are one step each. A thread that has taken something starts
another where nobody else waits, *before* it runs foreign code: so an end that hangs keeps nothing
else waiting. Threads cannot be started by whoever puts (the collector may have called it), so one
waits from the time on at which something is made that will have to be ended: `be_ready`.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.tracebacks import format_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_logger: Final = logging.getLogger("epochal.kinds")
_MOST_IDLE: Final = 2


class Endings:
    """Runs ends on threads of its own, each as soon as it is put."""

    __slots__ = ("_idle", "_lock", "_pid", "_queue")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._queue: SimpleQueue[tuple[str, Callable[[], Any]]] = SimpleQueue()
        self._idle: list[None] = []

    def be_ready(self) -> None:
        """Have a thread wait for what is put from now on."""
        if self._idle and self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():  # a fork has none of the threads
                self._begin()
            if not self._idle:
                self._start()

    def put(self, what: str, end: Callable[[], Any]) -> None:
        """Have an end run soon; may be called anywhere, by the collector even.

        Args:
            what: for the log, if it fails.
            end: holds what its code belongs to.
        """
        self._queue.put((what, end))

    def _start(self) -> None:
        self._idle.append(None)
        threading.Thread(
            target=_serve, args=(self, self._queue, self._idle), name="epochal-endings", daemon=True
        ).start()


def _serve(
    endings: Endings, queue: SimpleQueue[tuple[str, Callable[[], Any]]], idle: list[None]
) -> None:
    while True:
        what, end = queue.get()
        idle.pop()
        if not idle:
            with suppress(RuntimeError):  # the interpreter is shutting down
                endings._start()  # noqa: SLF001  its own threads
        _run(what, end)
        del end  # nothing is held while this waits
        if len(idle) >= _MOST_IDLE:
            return
        idle.append(None)


def _run(what: str, end: Callable[[], Any]) -> None:
    try:
        end()
    except BaseException as error:  # noqa: BLE001  foreign code, on nobody's behalf: told, no more
        _logger.warning("ending %s raised %s", what, format_error(error))


endings: Final = Endings()
"""Those of the process."""
