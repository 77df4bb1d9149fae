"""One run of a job: pinned to the code that is current as it begins, and to nothing else.

The operation keeps the job's own plugin from the look-up on, so a tick holds up no other plugin's
drain. Each runs in a fresh copy of the context in which its `Jobs` was made: what one tick sets in
a context variable is not there for the next, and does not keep its plugin in memory.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from epochal._core.introspect.tracebacks import format_error
from epochal.errors import ForkedRuntimeError, RuntimeClosedError
from epochal.kinds.job import job

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextvars import Context

    from epochal._core.generation.operation import Operation
    from epochal.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        generation: that ran.
        took_ms: milliseconds.
        error: in one line; None if it ended well.
    """

    generation: int
    took_ms: float
    error: str | None


def run_tick(runtime: Runtime, name: str, context: Context) -> Outcome | None:
    """Run a job once.

    Args:
        runtime: whose.
        name: the job's.
        context: to run it in.

    Returns:
        How it ended; None if nothing ran, because the job, or the runtime, is gone.
    """
    try:
        operation = runtime.operation(f"job {name}")
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
    told = None
    try:
        context.run(_call, function)
    except BaseException as error:  # noqa: BLE001  the plugin's own: told, and tried again
        # Only its text is kept: its traceback would hold the plugin in use.
        told = format_error(error)
    return Outcome(generation, (perf_counter() - started) * 1000.0, told)


def _call(function: Any) -> None:
    """Call it; what it returns to be awaited runs in an event loop of this tick's own."""
    result = function()
    if inspect.isawaitable(result):
        asyncio.run(_awaited(result))


async def _awaited(result: Awaitable[object]) -> None:
    await result
