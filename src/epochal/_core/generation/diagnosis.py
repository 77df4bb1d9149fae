"""Questions about one generation: which calls hold it in use, and which run its code unseen.

These are functions over the record (`Generation`); any thread may ask, at any time. Nothing here
keeps a strong reference to a lease after it returns: an answer must not prolong the drain that it
explains. For the same reason these functions have no nested functions and no comprehensions over a
lease: on CPython 3.11 the cell of a nested function would itself be found as a holder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epochal._core.introspect.collector import collect_soon
from epochal._core.introspect.running_code import cancel_tasks
from epochal._core.use.holders import (
    LISTED_AT_MOST,
    find_holders,
    holding_operations,
    limited,
)
from epochal.errors import format_error
from epochal.report import Holder

if TYPE_CHECKING:
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.operation import Operation
    from epochal._core.use.lease import Lease


def holders_of(generation: Generation, *, collect: bool = True) -> tuple[Holder, ...]:
    """What holds a generation in use. Looks through the whole heap.

    Args:
        generation: the generation.
        collect: collect first. Garbage uses nothing, and must not be named.
    """
    if collect and generation.live_lease() is not None:
        collect_soon()
    lease = generation.live_lease()
    if lease is None:
        return generation.stragglers()
    pinning = _operations_with(generation, lease)
    return find_holders(
        lease, globals_ids=generation.globals_ids(), own=generation.origin, operations=pinning
    )


def known_holders_of(generation: Generation) -> tuple[Holder, ...]:
    """The labelled operations and running calls that hold a generation in use."""
    lease = generation.live_lease()
    pinning = _operations_with(generation, lease) if lease is not None else ()
    del lease  # the look at every thread below would run with it
    operations = holding_operations(pinning)
    if len(operations) > LISTED_AT_MOST:  # no call would be listed: the look is left out
        return limited(operations)
    return limited([*operations, *generation.stragglers()])


def has_known_holders(generation: Generation) -> bool:
    """Whether a labelled operation or a running call holds a generation in use."""
    lease = generation.live_lease()
    is_pinned = lease is not None and bool(_operations_with(generation, lease))
    del lease  # as above
    return is_pinned or bool(generation.stragglers())


def cancel_holders_of(generation: Generation) -> tuple[Holder, ...]:
    """Ask the uses of a generation to stop: labelled operations, and tasks inside its code.

    A cancel callback that raises is added to the generation's `failures`.

    Returns:
        The operations and tasks that were asked.
    """
    lease = generation.live_lease()
    pinning = _operations_with(generation, lease) if lease is not None else ()
    del lease  # callbacks of hosts run below
    asked: list[Holder] = []
    for operation in pinning:
        asked.append(Holder("operation", operation.label))
        try:
            operation.cancel()
        except ExceptionGroup as errors:
            generation.failures.append(format_error(errors))
    return (*asked, *cancel_tasks(generation.globals_ids(), own=generation.origin))


def _operations_with(generation: Generation, lease: Lease) -> list[Operation]:
    pinning: list[Operation] = []
    for operation in generation.operations.live():  # a loop: see the module's docstring
        if operation.holds(lease, generation.plugin):
            pinning.append(operation)  # noqa: PERF401
    return pinning
