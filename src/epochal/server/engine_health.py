"""Whether the engine can work at all.

The problem: the engine runs all queries on a few threads, one a processor. A plugin's function that
does not return keeps its thread, whatever becomes of its query: nothing gets a thread out of a
call. When every thread is in such a call, no query is answered any more, of any plugin, and each
ends at its time limit.

The idea: where anything of a query is with the engine, ask a question now and then that takes it no
time at all. If it is not answered, twice, while some threads are inside of plugins' functions,
those hold the engine: then `/readyz` says so and by whom, and the log once, so that whoever runs
the service can send its traffic elsewhere and start it anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from epochal.errors import EpochalError, QueryTimeoutError
from epochal.server.problem_details import logger

if TYPE_CHECKING:
    from epochal.runtime import Runtime
    from epochal.server.state import Service

LOOK_S: Final = 2.0
ANSWER_S: Final = 2.0
_SHOWN: Final = 8


async def watch_workers(service: Service) -> None:
    """Keep `service.held_by` true, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        if service.held_by or service.database.is_in_engine:
            held_by = await _held_by(service)
            if held_by and not service.held_by:  # or is it only busy?
                held_by = await _held_by(service)
            _note(service, held_by)


async def _held_by(service: Service) -> tuple[str, ...]:
    """Who holds all of the engine's threads; nobody where it answers."""
    try:
        async with await service.database.aquery("SELECT 1", timeout=ANSWER_S) as result:
            await result.ato_table()
    except QueryTimeoutError:
        return await asyncio.to_thread(_inside, service.runtime)
    except EpochalError:  # it is closing, or too many are being planned: nothing is known
        return service.held_by
    return ()


def _inside(runtime: Runtime) -> tuple[str, ...]:
    """The threads that are inside of plugins' code, in a person's words."""
    found: list[str] = []
    epoch = runtime.epoch
    generations = [*epoch.generations.values(), *runtime.draining]
    del epoch
    while generations:
        found += generations.pop().stragglers()
    return tuple(found)


def _note(service: Service, held_by: tuple[str, ...]) -> None:
    before, service.held_by = service.held_by, held_by
    if held_by and not before:
        logger.error("no query can be answered: %s", said(held_by))
    elif before and not held_by:
        logger.info("queries are answered again")


def said(held_by: tuple[str, ...]) -> str:
    """Who holds the engine, in one line."""
    more = f"; and {len(held_by) - _SHOWN} more" if len(held_by) > _SHOWN else ""
    return f"every thread of the engine is in a plugin's call: {'; '.join(held_by[:_SHOWN])}{more}"
