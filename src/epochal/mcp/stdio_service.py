"""A server of its own over standard input and output.

Standard output belongs to the protocol: one line that is none of it ends the session. So the SDK
takes the descriptor before any plugin is loaded, and what plugins and their children print goes to
standard error. Standard input is empty to them.

The end is the client's closing of standard input, or a signal. A thread that reads standard input
cannot be stopped, so after a signal the process leaves without it, once the plugins are shut down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, Final

from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.stdio import stdio_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcp.server.lowlevel import Server

_INTERRUPTED: Final = 128


def serve_stdio(make: Callable[[], tuple[Server[Any], Callable[[], object]]]) -> None:
    """Serve until the client closes standard input, or a signal comes.

    Args:
        make: makes the server, with all that prints, and what ends it.

    Raises:
        Exception: of `make`; the descriptors are given back by then.
    """
    asyncio.run(_serve(make))


async def _serve(make: Callable[[], tuple[Server[Any], Callable[[], object]]]) -> None:
    async with stdio_server() as (read, write):
        # The descriptor leads to standard error by now; so does the buffer of `print`, in order.
        with redirect_stdout(sys.stderr):
            server, end = await asyncio.to_thread(make)
            with _signals(end):
                try:
                    await server.run(read, write, _options(server))
                finally:
                    await asyncio.shield(asyncio.to_thread(end))
                    sys.stderr.flush()


def _options(server: Server[Any]) -> Any:
    changed = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    return server.create_initialization_options(changed)


@contextmanager
def _signals(end: Callable[[], object]) -> Iterator[None]:
    """Within the block, a signal ends the plugins, and then the process."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def stop(number: int) -> None:
        if tasks:  # again: at once
            os._exit(_INTERRUPTED + number)
        tasks.add(loop.create_task(leave(number)))

    async def leave(number: int) -> None:
        try:
            await asyncio.to_thread(end)
        finally:
            sys.stderr.flush()
            os._exit(0 if number == signal.SIGTERM else _INTERRUPTED + number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
