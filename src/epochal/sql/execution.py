"""One run of one query: the callables that it may use, until it ends.

The problem: a query's plan lives in native code. The engine drops it on its own threads, at some
later time, and frees its Python objects only when the binding next runs (a lease was seen to be
held until the next query). So a function that the plan holds cannot be what keeps a plugin in use,
and nothing outside the plan can stop it.

The idea: the plan holds *adapters*, the adapters hold an `Execution`, and the execution holds the
lease-carrying callables, in one table. While the query runs, an adapter looks its callable up at
every batch. Ending the query, for any reason, replaces the table by an empty one. From then on no
batch begins, so the query stops. The plugins' leases are released at that instant, in the thread
that ended the query, whatever the engine still holds. A call under way runs to its own end, since
its frame holds its function.

An exception of a plugin's function passes through the engine as a number, by which it is found
again on the other side: the caller gets the exception itself, with its traceback, not the engine's
text of it.

Which thread reads and writes what
----------------------------------

- ``_targets`` is replaced once, by `stop`, and read by `call` on engine threads: the old table or
  the empty one, never a part. Adapters add and remove their own instances, one dict step each.
- ``_end_reason`` is decided by `dict.setdefault`: of several threads that end a query at once, one
  succeeds. There is no lock, because `stop` also runs where a dropped result is collected: in any
  thread, at any point.
- The instances of `hold` are not closed by the thread that ends the query, which may be an event
  loop or the collector, but on a thread of `kinds.toolkit.cleanup`, which holds the plugin in use
  until the instance is closed. `stop` adds the closers to ``_cleanups`` *before* it reads
  ``_active_calls``, and a call leaves ``_active_calls`` *before* it reads ``_cleanups``. Therefore
  one of the two hands the closers on, and no call is inside an instance that is closed.
- ``_once`` is filled by the planning thread and cleared by that thread or by `stop`.
- ``stream`` is set by the planning thread, which then reads the end reason, and removed by `stop`,
  which sets the end reason first: a stream never outlives its query.
- `waking` sets ``_wake`` *before* it reads the end reason, and `stop` sets the end reason *before*
  it reads ``_wake``: either the waiting thread sees the end, or it is woken.
"""

from __future__ import annotations

import itertools
import re
import weakref
from contextlib import contextmanager, suppress
from enum import Enum
from threading import TIMEOUT_MAX
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal.errors import (
    BusyError,
    FunctionError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    place_of_error,
)
from epochal.kinds.codec import CodecError
from epochal.kinds.toolkit.cleanup import cleanup
from epochal.sql.conversion import ReturnTypeError
from epochal.sql.engine_refs import EngineRefs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    import pyarrow as pa
    from datafusion import RecordBatchStream

    from epochal import Operation
    from epochal.sql.function import Function
    from epochal.sql.plugin_tables import PluginTable
    from epochal.sql.read_ahead import CollectedBatches

    Callee: TypeAlias = Function | PluginTable

T = TypeVar("T")

_MAX_MESSAGE: Final = 400
_MAX_CHUNK: Final = 1024
_FAST_S: Final = 0.002
"""Rows are called in chunks, between which the query may end: four times as many rows after a chunk
that was fast, a quarter after one that was not. A check costs as much as two cheap rows."""

NO_ERROR: Final = "epochal-error:0;"
_ERROR_NUMBER: Final = re.compile(r"epochal-error:(\d+);")

INTERRUPTS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""Addressed to the reading thread, and not errors of the engine. (A plugin's exceptions never get
there as such, and a panic of the engine is not an `Exception`.)"""


class EndReason(Enum):
    """Why a query ended; the value completes "the query …"."""

    EXHAUSTED = "has given all its batches"
    CLOSED = "was closed"
    FAILED = "has failed"
    CANCELLED = "was cancelled"
    DATABASE_CLOSED = "was stopped: its database was closed"
    EXPIRED = "did not end in time"
    NO_MEMORY = "was ended: the process is short of memory"


_CANCELLED: Final = (EndReason.CANCELLED, EndReason.DATABASE_CLOSED)


class BadCallError(Exception):
    """The SQL calls a function with invalid arguments; the message is for the caller."""


class StoppedError(Exception):
    """Raised into the engine to stop it; callers never see its text."""


class Execution:
    """The callables and instances that one run of a query may use, until it ends.

    Args:
        operation: the query's operation, which pins its plugins.
        targets: the lease-carrying callables, by key.
        timeout: seconds from now; None for no limit.
        engine_refs: tracks what the engine holds.
        caller: the operation that asked the query; the functions run within it, on any thread.
        on_end: called once, when the query ends, in the thread that ends it.

    Attributes:
        sql: the query.
        track: counts an object for as long as it lives; see `EngineRefs`.
        stream: the engine's stream of batches; None before it begins and after the end.
        timeout: as given.
        deadline: in seconds of `time.monotonic`; None for no limit.
        parameters: the query's parameters by name, for table functions.
    """

    __slots__ = (
        "__weakref__",
        "_active_calls",
        "_caller",
        "_cleanups",
        "_closers",
        "_end_reason",
        "_errors",
        "_numbers",
        "_on_end",
        "_once",
        "_operation",
        "_targets",
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
        engine_refs: EngineRefs | None = None,
        caller: Operation | None = None,
        on_end: Callable[[Execution], object] = lambda _: None,
    ) -> None:
        self.sql: Final = sql
        self.track: Final = (engine_refs or EngineRefs()).track
        self.stream: RecordBatchStream | CollectedBatches | None = None
        self.timeout: Final = timeout
        self.deadline: Final = None if timeout is None else monotonic() + timeout
        self.parameters: Final = parameters or {}
        self._operation: Final = operation
        self._caller: Final = caller
        self._targets: dict[Hashable, Any] = dict(targets)
        self._end_reason: Final[dict[None, list[EndReason]]] = {}
        self._errors: Final[dict[int, BaseException]] = {}
        self._numbers: Final = itertools.count(1)
        self._once: Final[dict[Hashable, Any]] = {}
        self._closers: Final[dict[Hashable, Callable[[], object]]] = {}
        self._cleanups: Final[list[Callable[[], object]]] = []
        self._active_calls: Final[dict[int, None]] = {}
        self._wake: Callable[[], object] | None = None
        self._on_end: Final = on_end
        # Weak, since this refers to the operation: the two would form a cycle.
        me = weakref.ref(self)
        operation.on_cancel(lambda: _cancel(me()))

    # --- the end -----------------------------------------------------------------------------

    @property
    def end_reason(self) -> EndReason | None:
        """Why the query ended; None while it runs."""
        return self._end_reason[None][0] if self._end_reason else None

    def stop(self, reason: EndReason) -> bool:
        """End the query: no function is called from now on, and its plugins are released.

        Returns:
            Whether this call ended it; False if it had ended before.
        """
        mine = [reason]
        if self._end_reason.setdefault(None, mine) is not mine:
            return False
        self._targets = {}
        if self._closers:
            with suppress(KeyError):
                while True:  # one by one: one that `hold` adds meanwhile is taken here or there
                    self._cleanups.append(self._closers.popitem()[1])
        # After filling `_cleanups`: a call that leaves later finds them there.
        if self._cleanups and not self._active_calls:
            self._hand_on_cleanups()
        self.stream = None  # without its stream the engine stops at its next batch
        self._errors.clear()
        self._once.clear()
        self._operation.end()
        # After the end reason was set: see `waking`.
        if (wake := self._wake) is not None:
            wake()
        self._on_end(self)
        return True

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, nor is late."""
        return not self._end_reason and (self.deadline is None or monotonic() < self.deadline)

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, as many as a thread may wait; None for no limit."""
        if self.deadline is None:
            return None
        return min(max(0.0, self.deadline - monotonic()), TIMEOUT_MAX)

    def check(self) -> None:
        """Raise the error for a caller that wants more of an ended query; ends a late one first.

        Raises:
            QueryTimeoutError: its time limit is reached.
            QueryCancelledError: it was cancelled.
            BusyError: it was ended because the process is short of memory.
            QueryError: its result was closed, or it failed before.
        """
        self._expire()
        reason = self.end_reason
        if reason is None or reason is EndReason.EXHAUSTED:
            return
        if reason is EndReason.EXPIRED:
            raise QueryTimeoutError(f"the query did not end within {self.timeout:g} s: {self.sql}")
        kind: type[QueryError] = QueryError
        if reason in _CANCELLED:
            kind = QueryCancelledError
        elif reason is EndReason.NO_MEMORY:
            kind = BusyError  # perhaps another query's fault
        raise kind(f"the query {reason.value}: {self.sql}")

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call `wake` if the query ends while the block runs, or has ended before."""
        # Set before the end reason is read, or an end between the two would wake nothing.
        self._wake = wake
        try:
            if self.end_reason is not None:
                wake()
            yield
        finally:
            self._wake = None

    def attach(self, stream: RecordBatchStream | CollectedBatches) -> None:
        """Keep the engine's stream until the query ends."""
        self.stream = self.track(stream)
        # Read after the stream is set: a `stop` in between has not seen it.
        if self._end_reason:
            self.stream = None

    # --- calls from the engine ---------------------------------------------------------------

    def call(self, function: Callee, key: Hashable, work: Callable[..., T], *args: Any) -> T:
        """Run `work(target, *args)` for the engine, on one of its threads.

        Args:
            function: the function that is called, for messages.
            key: the key of the target: a function's, or an instance's.
            work: runs with the target.
            *args: passed on to it.

        Raises:
            StoppedError: for the engine: the query has ended, or `work` raised an error, whose
                number is in the message.
        """
        target: Any = None
        try:
            if self.deadline is not None:
                self._expire()
            target = self._targets.get(key)
            if target is None:
                raise StoppedError  # noqa: TRY301  # raised here, so that there is one way out
            if self._caller is not None:
                return self._caller.run(work, target, *args)
            return work(target, *args)
        except StoppedError:
            number = 0
        except BaseException as error:  # noqa: BLE001  # raised again for the caller
            number = self._record_error(function, error)
        finally:
            # A traceback may keep this frame: it must not keep the plugin in use.
            del target
        # Raised outside the handlers: there, the plugin's error would be its context.
        raise StoppedError(f"epochal-error:{number};")

    def call_held(self, function: Callee, key: Hashable, work: Callable[..., T], *args: Any) -> T:
        """`call` with an instance of `hold`, which is not closed while the call is inside."""
        number = next(self._numbers)
        self._active_calls[number] = None
        try:
            return self.call(function, key, work, *args)
        finally:
            # In this order: `stop` fills `_cleanups` and then reads `_active_calls`.
            del self._active_calls[number]
            if self._cleanups and not self._active_calls:
                self._hand_on_cleanups()

    def call_rows(self, function: Callable[..., T], columns: Sequence[pa.Array]) -> list[T]:
        """Call a function for each row, and stop between rows when the query has ended.

        Args:
            function: takes a value of each column.
            columns: at least one; all of one length.

        Raises:
            StoppedError: the query has ended.
            ReturnTypeError: the function raised StopIteration.
        """
        values = [column.to_pylist() for column in columns]
        results: list[T] = []
        size, end = 1, 0
        while (begin := end) < len(values[0]):
            end = min(begin + size, len(values[0]))
            started = monotonic()
            results += map(function, *[column[begin:end] for column in values])
            if len(results) != end:  # `map` takes a StopIteration for the end of its input
                raise ReturnTypeError(f"raised StopIteration in row {len(results)}")
            self.raise_if_ended()
            is_fast = monotonic() - started < _FAST_S
            size = min(size * 4, _MAX_CHUNK) if is_fast else max(size // 4, 1)
        return results

    def hold(self, key: Hashable, instance: Any, close: Callable[[], object] | None = None) -> None:
        """Keep an instance of a plugin's class for later calls, until the query ends.

        Args:
            key: finds the instance in `call`.
            instance: the instance.
            close: closes it, on a cleanup thread, and holds its plugin in use until then; None for
                an instance that is only dropped.
        """
        if close is not None:
            cleanup.prepare()
            self._closers[key] = close
        self._targets[key] = instance
        # Read after adding the instance: a `stop` in between has not seen it.
        if self._end_reason:
            self.release(key)

    def release(self, key: Hashable) -> None:
        """Let go of an instance that no call is inside."""
        self._targets.pop(key, None)
        if (close := self._closers.pop(key, None)) is not None:
            cleanup.schedule(self.sql, close)

    def raise_if_ended(self) -> None:
        """Stop long work inside a call if the query has ended.

        Raises:
            StoppedError: it has ended.
        """
        self._expire()
        if self._end_reason:
            raise StoppedError

    # --- planning ----------------------------------------------------------------------------

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Make an object at the first call with this key; later calls return the same one."""
        existing: T | None = self._once.get(key)
        if existing is None:
            existing = self._once[key] = make()
        return existing

    def planning_done(self) -> None:
        """Drop the objects of `once`: the query is not planned again."""
        self._once.clear()

    def error_in(self, message: str) -> BaseException | None:
        """The error of a plugin's function behind an engine's error message; None for others."""
        match = _ERROR_NUMBER.search(message)
        return self._errors.get(int(match[1])) if match else None

    def _hand_on_cleanups(self) -> None:
        """Have the instances closed; of several threads that do this at once, each takes some."""
        with suppress(IndexError):
            while True:
                cleanup.schedule(self.sql, self._cleanups.pop(0))

    def _expire(self) -> None:
        if self.deadline is not None and not monotonic() < self.deadline:  # also of NaN
            self.stop(EndReason.EXPIRED)

    def _record_error(self, function: Callee, error: BaseException) -> int:
        number = next(self._numbers)
        self._errors[number] = error_for_caller(function, error)
        if self._end_reason:  # `stop` has cleared the errors already
            self._errors.clear()
        return number


def _cancel(execution: Execution | None) -> None:
    """Stop a query whose operation was asked to end, by a drain that waits for it for example."""
    if execution is not None:
        execution.stop(EndReason.CANCELLED)


def error_for_caller(function: Callee, error: BaseException) -> BaseException:
    """The error that a caller gets for one of a plugin's function."""
    if isinstance(error, BadCallError):
        return QueryError(str(error))
    if isinstance(error, ReturnTypeError):
        return FunctionError(f"{function.label} {error}", function=function.name)
    if isinstance(error, CodecError):
        wrapped = FunctionError(f"{function.label}, {error}", function=function.name)
        wrapped.__cause__ = error.__cause__
        return wrapped
    if isinstance(error, KeyboardInterrupt):
        return error  # a query may run on its caller's thread
    # All others, not only `Exception`: a plugin's SystemExit would end the host's event loop, and
    # a panic of an extension in Rust is not an `Exception`.
    text = _one_line(error)
    place = place_of_error(error, in_full=False)  # clients of a service see this text
    wrapped = FunctionError(
        f"{function.label} raised {type(error).__name__}{f': {text}' if text else ''}{place}",
        function=function.name,
    )
    wrapped.__cause__ = error
    return wrapped


def _one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001  # `__str__` of the plugin's exception class raised
        return "(its message cannot be shown)"
    return text if len(text) <= _MAX_MESSAGE else f"{text[: _MAX_MESSAGE - 1]}…"
