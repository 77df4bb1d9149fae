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
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from epochal.server.problems import logger, problem
from epochal.server.sending import cut_off

if TYPE_CHECKING:
    from types import FrameType

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from epochal.server.service import Service

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_LAST: Final = 3
_LEFT: Final = 1


class Stop:
    """Listens to signals, where that is possible, for the time of a `with` block.

    Attributes:
        is_asked: whether the service is to stop; read often, by the event loop.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._signals = 0
        self._before: Final[dict[int, Any]] = {}

    def __enter__(self) -> Stop:
        # Outside of the main thread whoever runs the service stops it.
        if threading.current_thread() is threading.main_thread():
            for one in _SIGNALS:
                self._before[one] = signal.signal(one, self._hear)
        return self

    def __exit__(self, *exc: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before.clear()

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.is_asked = True
        self._signals += 1
        name = signal.Signals(number).name
        if self._signals == 1:
            logger.info("%s: stopping; running requests are given their time", name)
        elif self._signals < _LAST:
            logger.warning("%s again: still stopping; once more leaves at once", name)
        else:
            try:
                logger.error("%s again: leaving at once; plugins are not shut down", name)
                logging.shutdown()
                sys.stdout.flush()
            finally:  # a signal may come in the middle of a write, which cannot be entered again
                os._exit(_LEFT)


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
