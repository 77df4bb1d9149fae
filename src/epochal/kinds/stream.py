"""Streams: a source of events with positions, and a sink that makes them durable.

::

    @source
    class changes:
        def start(self, position): ...        # go on after it; None: from the beginning
        def read(self, limit): ...            # a list of (position, event); empty for none yet
        def checkpoint(self): ...             # the position up to which it was read
        def acknowledge(self, position): ...  # optional: up to here all is durable

    @sink
    class files:
        def start(self, position): ...        # go on after it; None: after what is durable
        def write(self, events): ...          # a list of (position, event)
        def checkpoint(self): ...             # make it durable; up to which position that is

`epochal.jobs.Streams` connects the two. A *position* is whatever the source can go on from: a
number, a text, a list of these; None is the beginning. It is the source's own: a sink gives back
what it was given, and needs to know of it no more than which of two is later, if it drops what it
has already. A sink that keeps positions as JSON gives lists where it got tuples.

What counts is the sink's checkpoint. A sink may say an earlier position than it was given, if it
did not make all of it durable; it will be given the rest again, as after a crash, a failure, and
each of its own reloads. So every event is delivered *at least* once.

A source that leaves events out returns an empty list although it is not at its end. That is seen by
its position: one that moved means "look again at once". So a position must not move by itself. What
is left out is looked at again after a restart, since the sink never heard of it; a source for which
that is much gives an event now and then that says no more than that it is there.

On reload the batch that is under way ends, on the old code; then `checkpoint()` is called on the
old object and `start(position)` on the new one, while the stream stands still. A `start` that
raises refuses the change, and the old object goes on. A `checkpoint` that raises does not, or its
own bug could not be mended by a reload: the new sink starts after what is durable (`start(None)`),
a new source where the sink is, and the failure is told as one of the flow's.

Both objects are made without arguments, once for each generation, after `init`. They are called by
one thread at a time: a hand-over that was given up at its time limit may still be inside
`checkpoint`, and until that returns nobody else calls the object. It may be inside `start` of a new
object as well, while the old one goes on: so `start` should look, and leave what it finds as it is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Handover, Kind, Opened
from epochal._core.introspect.tracebacks import format_error
from epochal.kinds.toolkit.class_checks import check_class, close_object
from epochal.kinds.toolkit.gated_state import GatedState, GatedTransfer, StateRef

if TYPE_CHECKING:
    from epochal._core.use.lease import Lease, RevocableLease


class StreamEndpoint(GatedState):
    """What is opened for one generation of a source or sink.

    All but the lock is written inside the gate and under the lock, or while the gate is closed.

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
    """What an epoch offers of a source or sink: something for `epochal.jobs.Streams` to connect."""

    def __init__(self, side: StateRef) -> None:
        self._ref: Final = side

    def __repr__(self) -> str:
        return f"<end of a stream: {type(self._ref.state.target).__name__}>"


class StreamKind(Kind[Any]):
    """The kind of one end of a stream: `source` or `sink`.

    Args:
        name: `source` or `sink`.
        description: one line for people.
        methods: what it must have, each with the names of its arguments.
        optional: what it may have besides.
        keeps_position: whether the new one stands, for a flow, where the old one stood. A sink does
            not: it may have said less than it was given, and the source has to give that again.
    """

    __slots__ = ("_keeps_position", "_methods", "_optional")

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
        """Ask for a class that is made without arguments and has the methods.

        Raises:
            TypeError: it is not; the message says all that is wrong.
        """
        has = {name: how for name, how in self._optional.items() if hasattr(export.target, name)}
        check_class(export.target, self._methods | has)

    def open(self, export: Export) -> StreamEndpoint:
        """Make the object; it starts when it is connected, or takes over."""
        return StreamEndpoint(export.target())

    def close(self, instance: StreamEndpoint) -> None:
        """Call its `close()`, if it has one."""
        close_object(instance.target)

    def wrap(self, instance: StreamEndpoint, lease: Lease | RevocableLease) -> StreamHandle:
        """Something to connect."""
        return StreamHandle(StateRef(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """`checkpoint()` on the old, `start(position)` on the new; meanwhile nothing flows."""
        before: StreamEndpoint = old.instance
        after: StreamEndpoint = new.instance

        def give(taken: _Taken | None) -> None:
            if taken is None:
                return
            after.handover_error = taken.handover_error
            # Where a source should start that has no position is known to the flow alone.
            if not (taken.handover_error and self._keeps_position):
                after.target.start(taken.position)
                after.is_started = True
                after.sync_token = before.sync_token if self._keeps_position else None

        move = GatedTransfer(before, after, lambda: _take(before, move), give)
        return move


@dataclass(frozen=True, slots=True)
class _Taken:
    """What the old object said: a position, or what it failed with."""

    position: Any
    handover_error: str = ""


def _take(before: StreamEndpoint, move: GatedTransfer) -> _Taken | None:
    """Ask the old one for its position.

    Returns:
        None where there is nothing to take: it never started, or the change was given up while
        another's call was waited for.
    """
    with before.call_lock:
        if move.is_given_up or not before.is_started:
            return None
        try:
            return _Taken(before.target.checkpoint())
        except Exception as error:  # noqa: BLE001  the plugin's own, and told by the flow
            return _Taken(None, f"checkpoint, as it was replaced: {format_error(error)}")


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
