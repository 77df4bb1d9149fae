"""One run of one query: what it may call, until it ends.

The problem: a query's plan lives in native code. It is dropped on the engine's own threads, at some
later time, and what it held of Python is let go only when the binding next runs (we saw a lease
held for as long as nobody made another query). A function that the plan holds can therefore not be
what keeps a plugin in use, and nothing from outside makes a plan stop.

The idea: the plan holds *adapters* that hold an `Execution`, and the execution holds the carrying
functions, in one table. While the query runs, an adapter finds its function there at every batch.
Ending the query, for whatever reason, replaces the table by an empty one: from then on no batch
begins, so the query stops; the plugins' leases are let go at that instant, in the thread that ended
the query, whatever the engine still holds; and a call that is under way goes on to its own end,
since its frame holds the function that it runs.

An exception of a plugin's function goes through the engine as a number and is looked up again on
the other side, so the caller gets the exception itself, with its traceback, and not the engine's
text of it.

Who reads, who writes
---------------------

``_targets`` is replaced by `stop`, once, and read by `call` on engine threads: old table or empty
one, whole. Adapters add and remove instances of their own, one dict step each. ``_ending`` is
decided by `dict.setdefault`: of several that end a query at once, one does. Nothing here takes a
lock, because `stop` also runs where a dropped result is collected: anywhere, in any thread.

What is held of plugins' instances (`hold`) is not ended by whoever ends the query, which may be an
event loop or the collector, but on a thread of `cleanup`, which holds the plugin in use until it
has. `stop` adds the ends to ``_late`` *before* it looks at ``_visits``, and a call leaves
``_visits`` *before* it looks at ``_late``: so one of the two hands them on, and no call is inside.

``_made`` is filled by the thread that plans, and emptied by that or by `stop`, one step each.
``stream`` is set by the thread that plans, which then looks at the ending, and taken away by
`stop`, which sets the ending before: so a stream never outlives its query. `waking` sets ``_wake``
*before* it looks at the ending, and `stop` sets the ending *before* it looks at ``_wake``: so
either the waiter sees the end, or it is woken.
"""

from __future__ import annotations

import itertools
import re
import weakref
from contextlib import contextmanager, suppress
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from epochal.errors import FunctionError, QueryCancelledError, QueryError, QueryTimeoutError
from epochal.kinds.codec import CodecError
from epochal.kinds.toolkit.cleanup import cleanup
from epochal.sql.conversion import ReturnTypeError
from epochal.sql.engine_refs import Engagement

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from datafusion import RecordBatchStream

    from epochal._core.generation.operation import Operation

T = TypeVar("T")

_LONGEST: Final = 400
_FAULT: Final = re.compile(r"epochal-fault:(\d+);")


class EndReason(Enum):
    """Why a query ended; the value completes "the query …"."""

    EXHAUSTED = "has given all its batches"
    CLOSED = "was closed"
    FAILED = "has failed"
    CANCELLED = "was cancelled"
    DATABASE_CLOSED = "was stopped: its database was closed"
    EXPIRED = "did not end in time"


def _cancel(execution: Execution | None) -> None:
    """Stop a query whose operation was asked to end (a drain that waits for it, say)."""
    if execution is not None:
        execution.stop(EndReason.CANCELLED)


class Named(Protocol):
    """What is known of a function that a query calls."""

    @property
    def name(self) -> str:
        """Its full name, `plugin.name`."""
        ...  # pyright takes a docstring alone for a body

    @property
    def label(self) -> str:
        """Name, plugin and version, for messages."""
        ...  # pyright takes a docstring alone for a body


class BadCallError(Exception):
    """The SQL calls a function in a way that cannot be right; the message says it to the caller."""


class StoppedError(Exception):
    """Tells the engine to stop; its text never reaches anybody."""


class Execution:
    """What one run of one query may call, until it ends.

    Args:
        operation: the query's pin on its plugins.
        targets: the carrying functions, by key.
        timeout: seconds from now; None for no limit.
        engagement: counts what the engine holds.
        on_end: called once, when it ends, by whoever ends it.

    Attributes:
        sql: the query.
        lend: counts an object for as long as it lives; see `Engagement`.
        stream: what the engine gives batches through; None before it begins and after the end.
        timeout: as given.
        deadline: in seconds of `time.monotonic`; None for none.
        parameters: the query's parameters by name, for table functions.
    """

    __slots__ = (
        "__weakref__",
        "_ending",
        "_faults",
        "_held",
        "_late",
        "_made",
        "_numbers",
        "_on_end",
        "_operation",
        "_targets",
        "_visits",
        "_wake",
        "deadline",
        "parameters",
        "sql",
        "stream",
        "timeout",
        "track",
    )

    def __init__(
        self,
        operation: Operation,
        targets: Mapping[Hashable, Any],
        *,
        sql: str,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        engagement: Engagement | None = None,
        on_end: Callable[[Execution], object] = lambda _: None,
    ) -> None:
        self.sql: Final = sql
        self.track: Final = (engagement or Engagement()).track
        self.stream: RecordBatchStream | None = None
        self.timeout: Final = timeout
        self.deadline: Final = None if timeout is None else monotonic() + timeout
        self.parameters: Final = parameters or {}
        self._operation: Final = operation
        self._targets: dict[Hashable, Any] = dict(targets)
        self._ending: Final[dict[None, list[EndReason]]] = {}
        self._faults: Final[dict[int, BaseException]] = {}
        self._numbers: Final = itertools.count(1)
        self._made: Final[dict[Hashable, Any]] = {}
        self._held: Final[dict[Hashable, Callable[[], object]]] = {}
        self._late: Final[list[Callable[[], object]]] = []
        self._visits: Final[dict[int, None]] = {}
        self._wake: Callable[[], object] | None = None
        self._on_end: Final = on_end
        # Not a reference of the operation's to this: the two would be a circle.
        me = weakref.ref(self)
        operation.on_cancel(lambda: _cancel(me()))

    # --- ending ------------------------------------------------------------------------------

    @property
    def ending(self) -> EndReason | None:
        """Why it ended; None while it runs."""
        return self._ending[None][0] if self._ending else None

    def stop(self, ending: EndReason) -> bool:
        """End the query: no function is called from now on, and its plugins are let go.

        Returns:
            Whether this call ended it, and not another before.
        """
        mine = [ending]
        if self._ending.setdefault(None, mine) is not mine:
            return False
        self._targets = {}
        with suppress(KeyError):
            while True:  # one by one, so that what `hold` adds meanwhile is taken here or there
                self._late.append(self._held.popitem()[1])
        if not self._visits:
            self._hand_on()
        self.stream = None  # dropping the stream stops the engine at its next batch
        self._faults.clear()
        self._made.clear()
        self._operation.end()
        if (wake := self._wake) is not None:
            wake()
        self._on_end(self)
        return True

    @property
    def remaining(self) -> float | None:
        """Seconds until its time is over, at least 0; None for no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())

    def check(self) -> None:
        """Raise what the query's end means to somebody who wants more of it; ends it if it is late.

        Raises:
            QueryTimeoutError: its time is over.
            QueryCancelledError: it was cancelled.
            QueryError: its result was closed, or it failed before.
        """
        if self.deadline is not None:
            self._expire()
        ending = self.ending
        if ending is None or ending is EndReason.EXHAUSTED:
            return
        if ending is EndReason.EXPIRED:
            raise QueryTimeoutError(f"the query did not end within {self.timeout:g} s: {self.sql}")
        kind = QueryCancelledError if ending in _CANCELLED else QueryError
        raise kind(f"the query {ending.value}: {self.sql}")

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Have `wake` called when the query ends while the block runs (at once if it has)."""
        self._wake = wake
        try:
            if self.ending is not None:
                wake()
            yield
        finally:
            self._wake = None

    def began(self, stream: RecordBatchStream) -> None:
        """Keep the stream until the query ends; who is in a fetch then keeps it until that ends."""
        self.stream = self.track(stream)
        if self._ending:
            self.stream = None

    # --- calls from the engine ---------------------------------------------------------------

    def call(self, function: Named, key: Hashable, work: Callable[..., T], *args: Any) -> T:
        """Run `work(target, *args)` for the engine, on one of its threads.

        Args:
            function: on whose behalf, for messages.
            key: what to look up: a function's key, or an instance's.
            work: does it.
            *args: passed on.

        Raises:
            StoppedError: for the engine: the query has ended, or `work` failed and the number in
                the message is its fault's.
        """
        target: Any = None
        try:
            if self.deadline is not None:
                self._expire()
            target = self._targets.get(key)
            if target is None:
                raise StoppedError  # noqa: TRY301  # in here, so that there is one way out
            return work(target, *args)
        except StoppedError:
            fault = 0
        except BaseException as error:  # noqa: BLE001  # raised anew for the caller
            fault = self._note(function, error)
        finally:
            # This frame may live on in a traceback: it must not keep the plugin in use.
            del target
        # Raised out here, so that the engine's error does not hold the plugin's as its context.
        raise StoppedError(f"epochal-fault:{fault};")

    def made(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made under a key while the query is planned; made at the first time."""
        found: T | None = self._made.get(key)
        if found is None:
            found = self._made[key] = make()
        return found

    def planned(self) -> None:
        """Nothing that was `made` is asked for any more."""
        self._made.clear()

    def visit(self, function: Named, key: Hashable, work: Callable[..., T], *args: Any) -> T:
        """`call`, into an instance that is held: it is not ended while this is inside."""
        number = next(self._numbers)
        self._visits[number] = None
        try:
            return self.call(function, key, work, *args)
        finally:
            del self._visits[number]
            if self._late and not self._visits:
                self._hand_on()

    def hold(self, key: Hashable, instance: Any, end: Callable[[], object] | None = None) -> None:
        """Keep an instance of a plugin's for later calls with this key, until the query ends.

        Args:
            key: what it is looked up by.
            instance: it.
            end: ends it, on a thread of `cleanup`; holds its plugin in use until then. None for
                what just goes.
        """
        if end is not None:
            cleanup.prepare()
            self._held[key] = end
        self._targets[key] = instance
        if self._ending:
            self.release(key)

    def release(self, key: Hashable) -> None:
        """Let an instance go that no call is inside of."""
        self._targets.pop(key, None)
        if (end := self._held.pop(key, None)) is not None:
            cleanup.schedule(self.sql, end)

    def _hand_on(self) -> None:
        """Have what was held be ended; of several that do this at once each takes some."""
        with suppress(IndexError):
            while True:
                cleanup.schedule(self.sql, self._late.pop(0))

    def fault_in(self, message: str) -> BaseException | None:
        """The exception behind an engine's error message; None if no function of ours raised."""
        found = _FAULT.search(message)
        return self._faults.get(int(found[1])) if found else None

    def proceed(self) -> None:
        """For long work inside a call: give up if the query has ended.

        Raises:
            StoppedError: it has.
        """
        self._expire()
        if self._ending:
            raise StoppedError

    def _expire(self) -> None:
        if self.deadline is not None and monotonic() >= self.deadline:
            self.stop(EndReason.EXPIRED)

    def _note(self, function: Named, error: BaseException) -> int:
        number = next(self._numbers)
        self._faults[number] = _fault(function, error)
        if self._ending:
            self._faults.clear()
        return number


_CANCELLED: Final = (EndReason.CANCELLED, EndReason.DATABASE_CLOSED)

INTERRUPTS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What somebody wants of the thread that reads, and no error of the engine's. (What a plugin raises
never gets there; a panic of the engine's is no `Exception`.)"""


def _fault(function: Named, error: BaseException) -> BaseException:
    if isinstance(error, BadCallError):
        return QueryError(str(error))
    if isinstance(error, ReturnTypeError):
        return FunctionError(f"{function.label} {error}", function=function.name)
    if isinstance(error, CodecError):
        fault = FunctionError(f"{function.label}, {error}", function=function.name)
        fault.__cause__ = error.__cause__
        return fault
    if isinstance(error, KeyboardInterrupt):
        return error  # a query may well run on its caller's thread
    # Whatever else it is: a plugin's SystemExit would end the host's event loop, and the panics of
    # extensions written in Rust are no `Exception` either.
    text = _one_line(error)
    fault = FunctionError(
        f"{function.label} raised {type(error).__name__}{f': {text}' if text else ''}",
        function=function.name,
    )
    fault.__cause__ = error
    return fault


def _one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001  # the plugin's own exception class, at fault once more
        return "(its message cannot be shown)"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
