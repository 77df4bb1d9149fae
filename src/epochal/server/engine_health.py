"""Whether the engine can work at all.

The problem: the engine runs all queries on a few threads, four a processor. A plugin's function
that does not return keeps its thread, whatever becomes of its query: no thread can be taken out of
a call. So does a join in which the engine never yields. When every thread is kept, no query is
answered any more, and each ends at its time limit.

The idea: while the engine has work, send it a query now and then that takes no time at all. If the
engine does not answer twice, its threads are kept, by calls of plugins' functions or by queries
that have ended. Then `/readyz` and every query are 503 `held` at once, with the calls, and the log
has them, once: an operator can send the traffic elsewhere and restart the service.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from epochal.errors import EpochalError, QueryTimeoutError
from epochal.server.problem_details import Problem, logger

if TYPE_CHECKING:
    from epochal import Runtime
    from epochal.server.state import ServiceState

LOOK_S: Final = 2.0
ANSWER_S: Final = 2.0
_SHOWN: Final = 8
_NO_CALL: Final = "queries that have ended or take long, in joins that the engine cannot stop"


async def watch_engine(service: ServiceState) -> None:
    """Update `service.held_by`, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        if service.held_by or service.database.is_in_engine:
            held_by = await _find_holders(service)
            if held_by and not service.held_by:  # a second look: the engine may only be busy
                held_by = await _find_holders(service)
            _note(service, held_by)


async def _find_holders(service: ServiceState) -> tuple[str, ...]:
    """The calls that hold the engine's threads; none where the engine answers."""
    try:
        async with await service.database.aquery("SELECT 1", timeout=ANSWER_S) as result:
            await result.ato_table()
    except QueryTimeoutError:
        calls = await asyncio.to_thread(_running_calls, service.runtime)
        return calls or (_NO_CALL,)
    except EpochalError:  # closing, or too many queries wait to be planned: nothing is known
        return service.held_by
    return ()


def _running_calls(runtime: Runtime) -> tuple[str, ...]:
    """The threads that are inside plugins' code, in a person's words."""
    calls: list[str] = []
    epoch = runtime.epoch
    generations = [*epoch.generations.values(), *runtime.draining]
    # Each is let go as soon as it was looked at: the search takes a while, and holds what it names.
    del epoch
    while generations:
        calls += map(str, generations.pop().stragglers())
    return tuple(calls)


def _note(service: ServiceState, held_by: tuple[str, ...]) -> None:
    before, service.held_by = service.held_by, held_by
    if held_by and not before:
        logger.error("no query can be answered: %s", describe_holders(held_by))
    elif before and not held_by:
        logger.info("queries are answered again")


def describe_holders(held_by: tuple[str, ...]) -> str:
    """The calls that hold the engine, in one line."""
    more = f"; and {len(held_by) - _SHOWN} more" if len(held_by) > _SHOWN else ""
    return f"every thread of the engine is held by {'; '.join(held_by[:_SHOWN])}{more}"


def check_engine(service: ServiceState) -> None:
    """Refuse a query that the engine could not answer.

    Raises:
        Problem: every thread of the engine is held.
    """
    if service.held_by:
        raise Problem(503, "held", describe_holders(service.held_by))
