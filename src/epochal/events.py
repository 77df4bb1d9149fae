"""A runtime's events: typed records of what happened, delivered without delaying the runtime.

Every state change of a generation, every change, drain, time-out and failure is an `Event`. An
event describes itself: `describe()` is its line in a log and `level` the line's level, so logs, the
server's event stream and a host's own subscribers need no table of events. A host or a kind may
emit its own: derive from `Event`. The events of jobs and streams are in `epochal.jobs`, those of
the folder watcher in `epochal.watch`.

Subscribers are foreign code: they may be slow, block or raise. So `emit` only puts the event on one
queue per subscriber, and each subscriber has its own thread, which starts and ends with the
subscription. A subscriber that blocks delays only itself; if it raises, the others get a
`SubscriberFailed` event. A subscriber that falls `BACKLOG` events behind misses the rest of the
burst, and the next event that it gets is an `EventsMissed` with their number.

Threads and locks
-----------------

``EventStream._subscribers`` is an immutable tuple. `subscribe` and `remove` replace it under
``_lock``; `emit` reads it without a lock and sees either the old or the new tuple, whole. A
subscription's queue has many writers and one reader. Two emitters that overflow one queue at once
may lose an increment of ``_missed``, so the number in an `EventsMissed` is a lower bound.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, fields
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar, Final

from epochal._core.sync.threads import start_thread
from epochal.errors import format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from epochal._core.generation.states import LifecycleState
    from epochal.report import Cutover, Holder, Leak, Swap

BACKLOG: Final = 10_000
"""How many events a subscriber may be behind before it misses some."""
_NO_WAIT_S: Final = 0.5
"""A drain that is reported sooner had no limit that an operator would have chosen."""
_LISTED: Final = 20
"""So many plugins are named in a line."""
_END_S: Final = 5.0
"""Seconds that ending a subscription waits for its callback: that may never return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    A subclass sets ``_LEVEL`` and ``_TEXT``, or overrides `level` and `describe`.

    Attributes:
        at: seconds since the Unix epoch.
    """

    _LEVEL: ClassVar[int] = logging.INFO
    _TEXT: ClassVar[str] = ""

    at: float = field(default_factory=time.time)

    @property
    def level(self) -> int:
        """The event's level in a log: `logging.DEBUG`, `INFO`, `WARNING` or `ERROR`."""
        return self._LEVEL

    def describe(self) -> str:
        """The event in one line, for a log. The text is stable; the facts are in the attributes."""
        facts = {fact.name: getattr(self, fact.name) for fact in fields(self)}
        for name, value in facts.items():
            if isinstance(value, tuple):
                facts[name] = "; ".join(map(str, value))
        return self._TEXT.format_map(facts) if self._TEXT else repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """A generation went from one lifecycle state to another."""

    _LEVEL: ClassVar[int] = logging.DEBUG
    _TEXT: ClassVar[str] = "{plugin}#{generation} {old.name} -> {new.name}"

    plugin: str
    generation: int
    old: LifecycleState
    new: LifecycleState


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeStarted(Event):
    """A change began to run; `steps` is its plan, a line for each step."""

    _LEVEL: ClassVar[int] = logging.DEBUG
    _TEXT: ClassVar[str] = "change {change} started: {steps}"

    change: int
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCommitted(Event):
    """A change was published: operations that begin now see the new epoch.

    Attributes:
        change: its number.
        epoch_before: the number of the epoch that it replaced.
        epoch_after: the number of the new epoch.
        plugins: the ids of the plugins that changed.
        swaps: what happened to each of them.
        reason: by whom and why, as the change's caller gave it.
    """

    change: int
    epoch_before: int
    epoch_after: int
    plugins: tuple[str, ...]
    swaps: tuple[Swap, ...] = ()
    reason: str = ""

    @property
    def level(self) -> int:
        """INFO; DEBUG if no plugin changed, as at the end of a runtime without plugins."""
        return logging.INFO if self.plugins else logging.DEBUG

    @property
    def epoch(self) -> int:
        """The number of the new epoch."""
        return self.epoch_after

    @property
    def plugin(self) -> str | None:
        """The plugin's id, if it is one alone."""
        return self.plugins[0] if len(self.plugins) == 1 else None

    @property
    def version(self) -> str | None:
        """The version that serves now, or that was removed, of one plugin alone."""
        swap = self.swaps[0] if len(self.swaps) == 1 else None
        one = None if swap is None else swap.new or swap.old
        return None if one is None else one.version

    @property
    def verb(self) -> str | None:
        """`load`, `reload` or `remove`, if the change did the same to all its plugins."""
        verbs = {_verb_of(swap) for swap in self.swaps}
        return verbs.pop() if len(verbs) == 1 else None

    def describe(self) -> str:
        """`reload vat 1.0 -> 1.1 (epoch 2, by watch)`."""
        listed = _listed([_described(swap) for swap in self.swaps]) or ", ".join(self.plugins)
        # The watcher's reason has the names of the files, which are in the line already.
        by = "watch" if self.reason.startswith("watch:") else self.reason
        where = f"epoch {self.epoch_after}{f', by {by}' if by else ''}"
        return f"{listed or 'no plugin'} ({where})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDropped(Event):
    """The active generation lacks some exports or state (`dropped`) of its predecessor.

    To refuse such a version, export a service: its `import_state` may raise.
    """

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "{plugin}#{generation} has no place for {dropped}"

    plugin: str
    generation: int
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesLost(Event):
    """Entries of the active generation in the host's tables are not there (`lost`).

    Its predecessor's `shutdown()` took them out, because both register under one name; or they
    could not be made. `ctx.register` hands an entry over.
    """

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "{plugin}#{generation} lost {lost}; register with ctx.register"

    plugin: str
    generation: int
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFailed(Event):
    """A change failed before publish and was rolled back; the active generations are untouched.

    `code` is the error's stable code, `error` its text, `phases_ms` how long each step took until
    then, `reason` by whom and why, as the change's caller gave it. `caller` is what
    `EventStream.identify_callers` reads.
    """

    _TEXT: ClassVar[str] = "change {change} rolled back [{code}]: {error}"

    change: int
    code: str
    error: str
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    caller: object = field(default=None, repr=False)

    @property
    def level(self) -> int:
        """ERROR; DEBUG for the folder watcher's, whose `SourceRefused` is the error of a save."""
        return logging.DEBUG if self.reason.startswith("watch:") else logging.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFinished(Event):
    """Every old generation of a committed change is removed; `cutover` is the final report.

    `caller` is what `EventStream.identify_callers` reads.
    """

    change: int
    cutover: Cutover
    caller: object = field(default=None, repr=False)

    @property
    def level(self) -> int:
        """INFO; DEBUG if there was nothing to remove."""
        return logging.INFO if self._gone else logging.DEBUG

    @property
    def _gone(self) -> list[str]:
        return [f"{s.plugin} {s.old.version}" for s in self.cutover.swaps if s.old is not None]

    def describe(self) -> str:
        """The old code that is gone, and how long the cutover took."""
        gone, took = self._gone, f"{self.cutover.cutover_ms:.1f} ms"
        if not gone:
            return f"change {self.change} finished: {took}"
        memory = "memory reclaimed" if self.cutover.reclaimed else "memory not reclaimed"
        return f"{_listed(gone)} shut down: {memory}, {took}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainTimedOut(Event):
    """A drain outlasted its limit (`waited`, in seconds) and goes on in the background.

    `holders` are what still uses the generation. A change that does not wait at all, as the folder
    watcher's, has another such event once the old code was in use for half a minute.
    """

    plugin: str
    generation: int
    waited: float
    holders: tuple[Holder, ...]

    @property
    def level(self) -> int:
        """WARNING; INFO for a change that was asked not to wait."""
        return logging.WARNING if self.waited >= _NO_WAIT_S else logging.INFO

    def describe(self) -> str:
        """The generation, the wait and the holders."""
        holders = "; ".join(map(str, self.holders)) or "no holder that can be named"
        return (
            f"{self.plugin}#{self.generation} still in use after {self.waited:.1f} s, "
            f"drains on: {holders}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldersAsked(Event):
    """A drain outlasted its limit, and the generation's holders were asked to stop."""

    _LEVEL: ClassVar[int] = logging.WARNING

    plugin: str
    generation: int
    holders: tuple[Holder, ...]

    def describe(self) -> str:
        """The generation and the holders."""
        holders = "; ".join(map(str, self.holders)) or "no holder that can be asked"
        return f"{self.plugin}#{self.generation} asked to stop: {holders}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownFailed(Event):
    """A step of a generation's shutdown raised; the shutdown went on."""

    _LEVEL: ClassVar[int] = logging.ERROR
    _TEXT: ClassVar[str] = "{plugin}#{generation} shutdown: {error}"

    plugin: str
    generation: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationLeaked(Event):
    """A removed generation's memory did not come back; `leaks` are the references that keep it."""

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "{plugin}#{generation} is still in memory: {leaks}"

    plugin: str
    generation: int
    leaks: tuple[Leak, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFaulted(Event):
    """A fault of the store that stops nothing, such as a file that cannot be removed.

    A fault that stops a change is that change's error instead.
    """

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "store: {error}"

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberFailed(Event):
    """A subscriber raised. It still gets events."""

    _LEVEL: ClassVar[int] = logging.ERROR
    _TEXT: ClassVar[str] = "subscriber {subscriber} raised {error}"

    subscriber: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsMissed(Event):
    """This subscriber was too far behind and missed at least `count` events."""

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "at least {count} events were missed: this log is too slow"

    count: int


def _listed(words: list[str]) -> str:
    more = f", and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return ", ".join(words[:_LISTED]) + more


def _verb_of(swap: Swap) -> str:
    if swap.old is None:
        return "load"
    return "remove" if swap.new is None else "reload"


def _described(swap: Swap) -> str:
    """`reload vat 1.0 -> 1.1`; equal versions are told apart by their digests."""
    old, new = swap.old, swap.new
    if old is None or new is None:
        one = new or old
        return f"{_verb_of(swap)} {swap.plugin}{f' {one.version}' if one else ''}"
    if old.digest == new.digest:
        return f"reload {swap.plugin} {new.version}, the same code"
    if old.version == new.version:
        return f"reload {swap.plugin} {new.version} ({old.digest[:8]} -> {new.digest[:8]})"
    return f"reload {swap.plugin} {old.version} -> {new.version}"


class EventStream:
    """Delivers a runtime's events to its subscribers."""

    __slots__ = ("_lock", "_read_caller", "_subscribers")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._subscribers: tuple[_Subscription, ...] = ()
        self._read_caller: Callable[[], object] | None = None  # replaced and read, one step each

    def identify_callers(self, read: Callable[[], object] | None) -> None:
        """Have events of changes carry who asked for the change, for a tracer that links the two.

        Args:
            read: called in the thread, and with the context variables, of the code that asks. What
                it returns is kept with the events, so it must lead to no code of a plugin. None
                for nothing.
        """
        self._read_caller = read

    def caller(self) -> object:
        """What the present thread's code is called in events; None for nothing."""
        read = self._read_caller
        return None if read is None else read()

    def subscribe(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Call `callback` with each event from now on, in order, on a thread of its own.

        Returns:
            A function that ends the subscription. Events that were emitted before are still
            delivered, and it returns when that is done (at once if the callback itself calls it).

        Raises:
            NoThreadError: the system starts no more threads.
        """
        subscription = _Subscription(callback, self)
        try:
            with self._lock:
                self._subscribers = (*self._subscribers, subscription)
            subscription.start()
        except BaseException:
            subscription.end()  # its thread may have begun
            raise
        return subscription.end

    def emit(self, event: Event, *, without: _Subscription | None = None) -> None:
        """Queue an event for every subscriber. Never blocks; no subscriber's error comes back.

        Args:
            event: what happened.
            without: a subscription that does not get it, because the event is about it.
        """
        for subscription in self._subscribers:
            if subscription is not without:
                subscription.put(event)

    def close(self) -> None:
        """End every subscription; each still gets the events that were emitted before."""
        for subscription in self._subscribers:
            subscription.end()

    def remove(self, subscription: _Subscription) -> None:
        """Emit nothing more to this subscription."""
        with self._lock:
            self._subscribers = tuple(s for s in self._subscribers if s is not subscription)


class _Subscription:
    """One subscriber, its queue and its thread."""

    __slots__ = ("_callback", "_missed", "_queue", "_stream", "_thread")

    def __init__(self, callback: Callable[[Event], object], stream: EventStream) -> None:
        self._callback: Final = callback
        self._stream: Final = stream
        # A SimpleQueue's put is re-entrant: an event may be emitted inside a weak reference's
        # callback, in the middle of another put.
        self._queue: Final[SimpleQueue[Event | None]] = SimpleQueue()
        self._missed = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = start_thread(self._run, name="epochal-events")

    def put(self, event: Event) -> None:
        if self._queue.qsize() >= BACKLOG:
            self._missed += 1
            return
        # Before the event: the subscriber learns of the gap at the place where it is.
        self._put_missed()
        self._queue.put(event)

    def _put_missed(self) -> None:
        missed, self._missed = self._missed, 0
        if missed:
            self._queue.put(EventsMissed(count=missed))

    def end(self) -> None:
        # In this order: an event behind the None would never be read.
        self._stream.remove(self)
        self._put_missed()
        self._queue.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=_END_S)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                self._callback(event)
            except Exception as error:  # noqa: BLE001  foreign code: reported to the others
                name = getattr(self._callback, "__qualname__", type(self._callback).__qualname__)
                failed = SubscriberFailed(subscriber=name, error=format_error(error))
                self._stream.emit(failed, without=self)
