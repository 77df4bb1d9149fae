"""One run of a job, pinned to the code that is active as it begins.

From the look-up on, the operation holds the job's own plugin alone, so a run delays no other
plugin's drain. Each run gets a fresh copy of the context in which its `Jobs` was made: a context
variable that one run sets is not set in the next, and does not keep the plugin in memory.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from epochal.errors import ForkedRuntimeError, RuntimeClosedError, format_error
from epochal.kinds.job import job

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextvars import Context

    from epochal import Operation
    from epochal.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run.

    Attributes:
        generation: the number of the generation that ran.
        took_ms: milliseconds.
        error: in one line; None if the run succeeded.
    """

    generation: int
    took_ms: float
    error: str | None


def run_job(runtime: Runtime, name: str, context: Context) -> Outcome | None:
    """Run a job once.

    Args:
        runtime: has the job's plugin.
        name: the job's full name.
        context: to run in.

    Returns:
        The result; None if nothing ran, because the job was removed or the runtime closed.
    """
    try:
        operation = runtime.operation(f"job {name}", epoch=runtime.epoch)
    except (RuntimeClosedError, ForkedRuntimeError):
        return None
    with operation:
        return _run(operation, name, context)


def _run(operation: Operation, name: str, context: Context) -> Outcome | None:
    plugin = name.partition(".")[0]
    function: Any = operation[job].get(name)
    if function is None:
        return None
    generation = operation.generations[plugin].number
    operation.narrow((plugin,))
    started = perf_counter()
    text = None
    try:
        context.run(_call, function)
    except BaseException as error:  # noqa: BLE001  the plugin's own: it is emitted, and retried
        # Keep the text alone: the traceback would hold the plugin in use.
        text = format_error(error)
    return Outcome(generation, (perf_counter() - started) * 1000.0, text)


def _call(function: Any) -> None:
    """Call the function; an awaitable result runs in an event loop of its own."""
    result = function()
    if inspect.isawaitable(result):
        asyncio.run(_awaited(result))


async def _awaited(result: Awaitable[object]) -> None:
    await result
