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
from contextlib import suppress
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
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Outcome] = loop.create_future()
    give_up = _begin(offered, arguments, call, answer)
    if give_up is None:
        return None, ToolError(
            f"{name} was not called: {MAX_THREADS} tools are running already", tool=name
        )
    if operation is not None:
        operation.on_cancel(partial(loop.call_soon_threadsafe, give_up))
    timer = None
    if timeout is not None:
        late = ToolTimeoutError(f"{name} did not end within {timeout:g} s", tool=name)
        timer = loop.call_later(timeout, _settle, answer, (None, late))
    try:
        outcome = await answer
    except asyncio.CancelledError:
        give_up()
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if isinstance(outcome[1], ToolTimeoutError):
        give_up()
    return outcome


def _begin(
    offered: Checked[Any],
    arguments: Mapping[str, Any],
    call: ToolCall,
    answer: asyncio.Future[Outcome],
) -> Callable[[], None] | None:
    """Begin a call; returns what gives it up, or None if too many are running."""
    function = offered.function
    if inspect.iscoroutinefunction(function):
        return _begin_task(call, answer, partial(function, **arguments))
    if inspect.isasyncgenfunction(function):
        return _begin_task(call, answer, partial(_collected, call, function, arguments))
    begun = _pool.try_submit(partial(copy_context().run, _on_thread, call, function, arguments))
    if begun is None:
        return None
    loop = answer.get_loop()

    def post(ended: Completion[Outcome]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(_settle_by, answer, ended)

    def give_up() -> None:
        call.cancel()
        _settle(answer, (None, _stopped(call)))

    begun.add_done_callback(post)
    return give_up


def _begin_task(
    call: ToolCall, answer: asyncio.Future[Outcome], work: Callable[[], Awaitable[Any]]
) -> Callable[[], None]:
    task = asyncio.create_task(_within(call, answer, work))

    def give_up() -> None:
        call.cancel()
        task.cancel()

    def stopped(ended: asyncio.Task[None]) -> None:
        if ended.cancelled():  # perhaps before it began
            _settle(answer, (None, _stopped(call)))

    task.add_done_callback(stopped)
    return give_up


def _settle(answer: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)


def _settle_by(answer: asyncio.Future[Outcome], ended: Completion[Outcome]) -> None:
    if not answer.done():
        try:
            answer.set_result(ended.result())
        except Exception as error:  # noqa: BLE001  no memory for it, such: the caller's to see
            answer.set_exception(error)


def _stopped(call: ToolCall) -> ToolCancelledError:
    reason = "its code has been replaced" if call.is_cancelled else "it cancelled itself"
    return ToolCancelledError(f"{call.tool} was stopped: {reason}", tool=call.tool)


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


async def _within(
    call: ToolCall, answer: asyncio.Future[Outcome], work: Callable[[], Awaitable[Any]]
) -> None:
    outcome: Outcome
    try:
        with running(call):
            outcome = await work(), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001  a plugin's own
        outcome = None, _failure(call, error)
    _settle(answer, outcome)


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
