"""Streams: a source of events with positions, and a sink that makes them durable.

::

    @source
    class changes:
        def start(self, position): ...        # go on after it; None: from the beginning
        def read(self, limit): ...            # a list of (position, event); empty for none yet
        def checkpoint(self): ...             # the position of the last event that was read

    @sink
    class files:
        def start(self, position): ...        # go on after it; None: after what is durable
        def write(self, events): ...          # a list of (position, event)
        def checkpoint(self): ...             # make durable what was written; its last position

`epochal.jobs.Streams` connects the two. A *position* is whatever the source can go on from: a
number, a text, a tuple; None is the beginning. It is opaque to everybody but the source.

On reload the batch that is under way ends, on the old code; then `checkpoint()` is called on the
old object and `start(position)` on the new one, while the stream stands still. If either fails, the
change is rolled back and the old one goes on. So a reload loses nothing. After a crash or a failure
the source goes on after the sink's last checkpoint and gives some events again: each is delivered
*at least* once. A sink that must not have them twice drops those whose position it has.

Both objects are made without arguments, once for each generation, after `init`. They are called by
one thread at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from epochal._core.kind import Export, Handover, Kind, Opened
from epochal.kinds.classes import check_class, close_object
from epochal.kinds.gate import GatedMove, Kept, Side

if TYPE_CHECKING:
    from epochal._core.lease import Borrow, Lease


class StreamEnd(Kept):
    """What is opened for one generation of a source or sink.

    Attributes:
        is_started: whether it was told where to start; only then it has a position to hand over.
            Written inside the gate, or while it is closed.
    """

    __slots__ = ("is_started",)

    def __init__(self, target: Any) -> None:
        super().__init__(target)
        self.is_started = False


class StreamHandle:
    """What an epoch offers of a source or sink: something for `epochal.jobs.Streams` to connect."""

    def __init__(self, side: Side) -> None:
        self._side: Final = side

    def __repr__(self) -> str:
        return f"<end of a stream: {type(self._side.kept.target).__name__}>"


class Stream(Kind[Any]):
    """The kind of one end of a stream: `source` or `sink`.

    Args:
        name: `source` or `sink`.
        description: one line for people.
        methods: what it must have, each with the names of its arguments.
    """

    __slots__ = ("_methods",)

    def __init__(self, name: str, description: str, methods: dict[str, tuple[str, ...]]) -> None:
        super().__init__(name, description)
        self._methods: Final = methods

    def validate(self, export: Export) -> None:
        """Ask for a class that is made without arguments and has the methods.

        Raises:
            TypeError: it is not; the message says all that is wrong.
        """
        check_class(export.target, self._methods)

    def open(self, export: Export) -> StreamEnd:
        """Make the object; it starts when it is connected, or takes over."""
        return StreamEnd(export.target())

    def close(self, instance: StreamEnd) -> None:
        """Call its `close()`, if it has one."""
        close_object(instance.target)

    def offer(self, instance: StreamEnd, lease: Lease | Borrow) -> StreamHandle:
        """Something to connect."""
        return StreamHandle(Side(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """`checkpoint()` on the old, `start(position)` on the new; meanwhile nothing flows."""
        before: StreamEnd = old.instance
        after: StreamEnd = new.instance

        def take() -> tuple[bool, Any]:
            return before.is_started, before.target.checkpoint() if before.is_started else None

        def give(state: tuple[bool, Any]) -> None:
            is_started, position = state
            if is_started:
                after.target.start(position)
            after.is_started = is_started

        return GatedMove(before, after, take, give)


source: Final = Stream(
    "source",
    "a stream's beginning: events with positions",
    {"start": ("position",), "read": ("limit",), "checkpoint": ()},
)
sink: Final = Stream(
    "sink",
    "a stream's end: makes events durable",
    {"start": ("position",), "write": ("events",), "checkpoint": ()},
)
