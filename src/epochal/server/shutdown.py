"""Being told to stop, from the first signal to the process's end.

The first SIGINT or SIGTERM ends the service in order, which may take a while: requests are given
their time, jobs, queries and drains theirs. So somebody who is in a hurry is listened to until all
of it is over: the second signal says what a third would do, and the third leaves at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from epochal.server.problem_details import logger, problem
from epochal.server.responses import cut_off

if TYPE_CHECKING:
    from types import FrameType

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from epochal.server.state import Service

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_LAST: Final = 3
_LEFT: Final = 1
_JOIN_S: Final = 1.0
_LAST_WORDS_S: Final = 1.0


class Stop:
    """Listens to signals, where that is possible, for the time of a `with` block.

    A thread of its own counts them. The interpreter would hear them in the main thread alone, when
    that executes Python code again: never, where a signal comes just as it begins to wait for a
    lock, or where it is stuck in native code.

    Attributes:
        is_asked: whether the service is to stop; written by that thread, read often by the event
            loop.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._signals = 0  # the thread's own
        self._undo: Final = ExitStack()

    def __enter__(self) -> Stop:
        # Outside of the main thread whoever runs the service stops it.
        if threading.current_thread() is threading.main_thread():
            with ExitStack() as begun:
                self._listen(begun)
                self._undo.push(begun.pop_all())
        return self

    def __exit__(self, *exc: object) -> None:
        self._undo.close()

    def _listen(self, undo: ExitStack) -> None:
        told, tell = socket.socketpair()
        tell.setblocking(False)  # a signal waits for nobody
        thread = threading.Thread(target=self._hear_all, args=(told,), name="signals", daemon=True)
        thread.start()
        undo.callback(thread.join, _JOIN_S)
        undo.callback(tell.close)
        if sys.platform == "win32":  # its event loop has the interpreter's wake-up for itself
            pass_on = partial(_pass_on, tell)
        else:
            undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(tell.fileno()))
            pass_on = _nothing
        for one in _SIGNALS:
            undo.callback(signal.signal, one, signal.signal(one, pass_on))

    def _hear_all(self, told: socket.socket) -> None:
        with told:
            while numbers := told.recv(1):
                if numbers[0] in _SIGNALS:
                    self._hear(signal.Signals(numbers[0]).name)

    def _hear(self, name: str) -> None:
        self.is_asked = True
        self._signals += 1
        if self._signals == 1:
            logger.info("%s: stopping; running requests are given their time", name)
        elif self._signals < _LAST:
            logger.warning("%s again: still stopping; once more leaves at once", name)
        else:
            # Somebody may be stuck with the log in hand, or nobody reads what it is written to.
            late = threading.Timer(_LAST_WORDS_S, os._exit, (_LEFT,))
            late.daemon = True
            late.start()
            try:
                logger.error("%s again: leaving at once; plugins are not shut down", name)
                logging.shutdown()
                sys.stdout.flush()
            finally:
                os._exit(_LEFT)


def _nothing(number: int, _: FrameType | None) -> None:
    """A handler, without which no signal is passed on to whoever listens."""


def _pass_on(tell: socket.socket, number: int, _: FrameType | None) -> None:
    tell.send(bytes([number]))


class Cut:
    """ASGI middleware by which requests that the stop cuts off are told so.

    Args:
        app: what answers.
        service: which stops.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app: Final = app
        self._service: Final = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of what was cancelled; cut off what has begun to answer."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            # The server cancels requests when their time is over, and else nobody does.
            if scope["type"] != "http" or not self._service.stopping:
                raise
        else:
            return
        if has_begun:
            await cut_off(scope)
        else:
            detail = "the service is stopping, and this took longer than it waits"
            await problem(503, "stopping", detail, {"connection": "close"})(scope, receive, send)
