"""Running a tool: on a thread or in the event loop, within a time limit, until the caller gives up.

A function runs on a thread of the pool, a coroutine and an async generator in the event loop. A
call that is over its time is answered at once: a coroutine is cancelled, a function finds
`cancelled()` true, and if it goes on nevertheless its thread is left to it, and keeps its
generation in use. Such threads are counted, and a host with too many of them refuses calls rather
than wait for ever.

No error leaves with a plugin's frames: they would keep the plugin in use.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal._core.sync.threads import ThreadPool
from epochal.errors import (
    ToolCancelledError,
    ToolError,
    ToolFailedError,
    ToolTimeoutError,
    format_error,
)
from epochal.kinds.tool_call import ToolCall, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from epochal import Operation
    from epochal._core.sync.completion import Completion
    from epochal.kinds.contract_kind import Checked
    from epochal.kinds.tool_call import CallReporter

    Outcome = tuple[Any, ToolError | None]

MAX_THREADS: Final = 256
"""Functions that run at once; further calls are refused."""

_SHOWN: Final = 200

_pool: Final = ThreadPool("epochal tool", max_threads=MAX_THREADS, max_waiting=0)


async def run(
    offered: Checked[Any],
    arguments: Mapping[str, Any],
    *,
    timeout: float | None = None,
    reporter: CallReporter | None = None,
    operation: Operation | None = None,
) -> Any:
    """Call a tool, a resource or a prompt with checked arguments.

    Args:
        offered: as an epoch offers it.
        arguments: as its `check` returned them.
        timeout: seconds that it may take; None for no limit.
        reporter: takes its progress and logs.
        operation: the operation that the call is; if that is cancelled, so is the call.

    Returns:
        What the function returned; of an async generator, the list of its items.

    Raises:
        ToolFailedError: it raised; the message has its error.
        ToolTimeoutError: it did not end in time.
        ToolCancelledError: the operation was cancelled.
        asyncio.CancelledError: the caller was cancelled; the tool was asked to stop.
    """
    value, error = await _outcome(offered, arguments, timeout, reporter, operation)
    # The error's traceback has this frame, which must not keep the plugin in use.
    del offered, arguments, operation
    if error is not None:
        raise error
    return value


async def _outcome(
    offered: Checked[Any],
    arguments: Mapping[str, Any],
    timeout: float | None,
    reporter: CallReporter | None,
    operation: Operation | None,
) -> Outcome:
    name, call = offered.name, ToolCall(offered.name, reporter, timeout)
    work = _begin(offered, arguments, call)
    if work is None:
        return None, ToolError(
            f"{name} was not called: {MAX_THREADS} tools are running already", tool=name
        )
    if operation is not None:
        loop = asyncio.get_running_loop()
        operation.on_cancel(partial(loop.call_soon_threadsafe, _give_up, call, work))
    try:
        await asyncio.wait({work}, timeout=timeout)
    except asyncio.CancelledError:
        _give_up(call, work)
        raise
    if not work.done():
        _give_up(call, work)
        return None, ToolTimeoutError(f"{name} did not end within {timeout:g} s", tool=name)
    return _result(name, work, call)


def _begin(
    offered: Checked[Any], arguments: Mapping[str, Any], call: ToolCall
) -> asyncio.Future[Outcome] | None:
    function = offered.function
    if inspect.iscoroutinefunction(function):
        return asyncio.ensure_future(_within(call, partial(function, **arguments)))
    if inspect.isasyncgenfunction(function):
        collect = partial(_collected, call, function, arguments)
        return asyncio.ensure_future(_within(call, collect))
    begun = _pool.try_submit(partial(copy_context().run, _on_thread, call, function, arguments))
    return None if begun is None else asyncio.ensure_future(_ended(begun))


async def _ended(begun: Completion[Outcome]) -> Outcome:
    await begun.wait_async()
    return begun.result()


# What follows returns errors rather than raising them: a future takes no `StopIteration`, a task
# that raises `SystemExit` ends the event loop, and a text keeps no frames.


def _on_thread(
    call: ToolCall, function: Callable[..., Any], arguments: Mapping[str, Any]
) -> Outcome:
    try:
        with running(call):
            result = function(**arguments)
            if inspect.isawaitable(result):  # of a decorated coroutine function
                result = asyncio.run(_awaited(result))
    except BaseException as error:  # noqa: BLE001  a plugin's own
        return None, _failure(call, error)
    return result, None


async def _awaited(result: Any) -> Any:
    return await result


async def _within(call: ToolCall, work: Callable[[], Awaitable[Any]]) -> Outcome:
    try:
        with running(call):
            return await work(), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001  a plugin's own
        return None, _failure(call, error)


async def _collected(
    call: ToolCall, function: Callable[..., Any], arguments: Mapping[str, Any]
) -> list[Any]:
    items: list[Any] = []
    generator = function(**arguments)
    try:
        async for item in generator:
            items.append(item)
            shown = item if isinstance(item, str) else repr(item)[:_SHOWN]
            call.progress(len(items), None, shown)
    finally:
        await generator.aclose()
    return items


def _failure(call: ToolCall, error: BaseException) -> ToolError:
    if isinstance(error, ToolCancelledError):
        return ToolCancelledError(f"{call.tool} was stopped", tool=call.tool)
    return ToolFailedError(f"{call.tool} failed: {format_error(error)}", tool=call.tool)


def _give_up(call: ToolCall, work: asyncio.Future[Outcome]) -> None:
    call.cancel()
    work.cancel()
    work.add_done_callback(_look)


def _look(work: asyncio.Future[Outcome]) -> None:
    """Take the error of a call that nobody waits for any more, so that nobody is warned of it."""
    if not work.cancelled():
        work.exception()


def _result(name: str, work: asyncio.Future[Outcome], call: ToolCall) -> Outcome:
    if work.cancelled():
        reason = "its code has been replaced" if call.is_cancelled else "it cancelled itself"
        return None, ToolCancelledError(f"{name} was stopped: {reason}", tool=name)
    return work.result()
