"""Streams: a source of events with positions, and a sink that makes them durable.

::

    @source
    class changes:
        def start(self, position): ...        # go on after it; None: from the beginning
        def read(self, limit): ...            # a list of (position, event); empty for none yet
        def checkpoint(self): ...             # the position up to which it was read
        def acknowledge(self, position): ...  # optional: all events up to here are durable

    @sink
    class files:
        def start(self, position): ...        # go on after it; None: after the durable events
        def write(self, events): ...          # a list of (position, event)
        def checkpoint(self): ...             # make events durable; return their last position

`epochal.jobs.Streams` connects the two. A *position* is any value from which the source can go on:
a number, a text, a list of these; None is the beginning. It belongs to the source: a sink returns
the positions that it was given, and only compares two of them, if it drops events that it already
has. A sink that stores positions as JSON returns lists where it got tuples.

The sink's checkpoint decides. A sink may return an earlier position than it was given, if it did
not make all events durable; it is given the rest again, as after a crash, after a failure, and
after each reload of its own. So every event is delivered *at least* once.

A source that filters events returns an empty list although it is not at its end. The stream detects
that by the source's position: one that moved means "read again at once". So a position must not
move by itself. Filtered events are read again after a restart, since the sink never got them; a
source that filters many should emit an empty event now and then.

On reload the current batch ends, on the old code; then `checkpoint()` is called on the old object
and `start(position)` on the new one, while the stream stands still. A `start` that raises refuses
the change, and the old object goes on. A `checkpoint` that raises does not refuse it, or a reload
could not mend a bug in `checkpoint` itself: the new sink starts after the durable events
(`start(None)`), a new source where the sink is, and the flow reports the failure as one of its own.

Both objects are made without arguments, once for each generation, after `init`. One thread at a
time calls an object: a hand-over that was given up at its time limit may still be inside
`checkpoint`, and no other thread calls the object until that returns. It may also be inside `start`
of a new object, while the old one goes on: so `start` should only read, and change nothing outside.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Handover, Kind, Opened
from epochal.errors import format_error
from epochal.kinds.toolkit.class_checks import check_class, close_object
from epochal.kinds.toolkit.gated_state import GatedState, GatedTransfer, StateRef

if TYPE_CHECKING:
    from epochal._core.use.lease import Lease, RevocableLease
    from epochal.kinds.marker_types import ClassMarker


class StreamEndpoint(GatedState):
    """The object of a source or sink in one generation.

    All attributes but the lock are written inside the gate and under the lock, or while the gate is
    closed.

    Attributes:
        call_lock: held by the thread that calls the object. Plugin code runs under it, and must:
            after a hand-over is given up the gate lets batches in again, while its `checkpoint`
            may still be running. So a batch only tries the lock, and a hand-over waits for it
            within its time limit.
        is_started: whether `start` was called; only then is there a position to hand over.
        sync_token: written by the flow that last brought source and sink to one position; None
            where the two are not known to agree.
        handover_error: the error of the previous object's `checkpoint` as this one took over, for
            the flow to report; empty for none.
    """

    __slots__ = ("call_lock", "handover_error", "is_started", "sync_token")

    def __init__(self, target: Any) -> None:
        super().__init__(target)
        self.call_lock: Final = threading.Lock()
        self.is_started = False
        self.sync_token: object | None = None
        self.handover_error = ""


class StreamHandle:
    """The handle that an epoch offers for a source or sink, for `epochal.jobs.Streams` to use."""

    def __init__(self, ref: StateRef) -> None:
        self._ref: Final = ref

    def __repr__(self) -> str:
        return f"<end of a stream: {type(self._ref.state.target).__name__}>"


class StreamKind(Kind[Any]):
    """The kind of one end of a stream: `epochal.kinds.source` or `epochal.kinds.sink`.

    Args:
        name: `source` or `sink`.
        description: one line for people.
        methods: the required methods, each with the names of its arguments.
        optional: the optional methods.
        keeps_position: whether a new object is, for the flow, where the old one was. Not so for a
            sink: it may have returned an earlier position than it was given, and the source has to
            read the rest again.
    """

    __slots__ = ("_keeps_position", "_methods", "_optional")

    if TYPE_CHECKING:
        __call__: ClassMarker  # type: ignore[assignment]  # overloads

    def __init__(
        self,
        name: str,
        description: str,
        methods: dict[str, tuple[str, ...]],
        *,
        optional: dict[str, tuple[str, ...]],
        keeps_position: bool,
    ) -> None:
        super().__init__(name, description)
        self._methods: Final = methods
        self._optional: Final = optional
        self._keeps_position: Final = keeps_position

    def validate(self, export: Export) -> None:
        """Require a class that is made without arguments and has the methods.

        Raises:
            TypeError: the class does not meet this; the message names every fault.
        """
        optional = {
            name: arguments
            for name, arguments in self._optional.items()
            if hasattr(export.target, name)
        }
        check_class(export.target, self._methods | optional)

    def open(self, export: Export) -> StreamEndpoint:
        """Make the object; `start` is called when it is connected, or takes over."""
        return StreamEndpoint(export.target())

    def close(self, instance: StreamEndpoint) -> None:
        """Call the object's `close()`, if it has one."""
        close_object(instance.target)

    def wrap(self, instance: StreamEndpoint, lease: Lease | RevocableLease) -> StreamHandle:
        """Return a handle that `epochal.jobs.Streams` connects."""
        return StreamHandle(StateRef(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """Return the move: `checkpoint()` on the old object, `start(position)` on the new one."""
        before: StreamEndpoint = old.instance
        after: StreamEndpoint = new.instance

        def give(taken: _Checkpoint | None) -> None:
            if taken is None:
                return
            after.handover_error = taken.error
            # A source without a position is started by the flow, which alone knows where.
            if not (taken.error and self._keeps_position):
                after.target.start(taken.position)
                after.is_started = True
                after.sync_token = before.sync_token if self._keeps_position else None

        transfer = GatedTransfer(before, after, lambda: _take(before, transfer), give)
        return transfer


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The old object's position, or the error that its `checkpoint` raised."""

    position: Any
    error: str = ""


def _take(before: StreamEndpoint, transfer: GatedTransfer) -> _Checkpoint | None:
    """Ask the old object for its position.

    Returns:
        None where there is nothing to take: the object never started, or the change was given up
        while this thread waited for another call to end.
    """
    with before.call_lock:
        if transfer.is_given_up or not before.is_started:
            return None
        try:
            return _Checkpoint(before.target.checkpoint())
        except Exception as error:  # noqa: BLE001  the plugin's own, reported by the flow
            reason = format_error(error)
            return _Checkpoint(None, f"checkpoint, as it was replaced: {reason}")


source: Final = StreamKind(
    "source",
    "a stream's beginning: events with positions",
    {"start": ("position",), "read": ("limit",), "checkpoint": ()},
    optional={"acknowledge": ("position",)},
    keeps_position=True,
)
sink: Final = StreamKind(
    "sink",
    "a stream's end: makes events durable",
    {"start": ("position",), "write": ("events",), "checkpoint": ()},
    optional={},
    keeps_position=False,
)
