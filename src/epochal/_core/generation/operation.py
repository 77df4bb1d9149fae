"""An operation: one unit of work, pinned to one epoch, with a name and a definite end.

Reading `runtime.epoch` pins as well and costs less. An operation adds the label and the age that a
person wants to see when a drain waits for it, and it ends at a definite point, even if the variable
that it was bound to lives on. Within its `with` block it is *ambient*: the hosts that its code uses
work in its epoch (`epochal._core.generation.ambient`).

Which thread reads, which writes
--------------------------------

The thread that runs the operation writes ``_epoch``, ``_pins`` and ``_plugins`` (`narrow`, `end`)
and ``_block``; it reads them, and so do diagnostics and hosts on other threads, which see the old
value or the new one.

`cancel`, on any thread, sets ``_cancelled`` and then takes callbacks off ``_on_cancel``;
`on_cancel` adds a callback and then reads ``_cancelled``. So the second of the two, whichever it
is, sees the work of the first and calls the callback; taking it off the list is one step, so only
one calls it.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal._core.generation.ambient import Ambient
from epochal.errors import OperationEndedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping
    from types import FrameType

    from epochal._core.generation.ambient import Block
    from epochal._core.generation.epoch import Epoch, RemoteTables
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Kind
    from epochal._core.use.lease import Lease

    F = TypeVar("F")

T = TypeVar("T")


class Operation:
    """A labelled pin on one epoch; made by `Runtime.operation`, used as a context manager.

    It offers what an epoch offers: `op[kind]["plugin.name"]`, `number`, `id`, `generations`.

    Within the `with` block, every host of the runtime works in this epoch: SQL queries, pluggy's
    hooks, and others that ask `Runtime.snapshot`. Tasks that are started in the block carry it, and
    so does `asyncio.to_thread`; other threads and executors do not, see `run`. In a generator it
    holds while the generator runs, and not for the code that iterates over it.

    Attributes:
        label: the work in words, shown where the operation holds up a drain.
        number: the epoch's number; known after the end, too.
        started: the time at which it began, in seconds of `time.monotonic`.
    """

    __slots__ = (
        "__weakref__",
        "_ambient",
        "_block",
        "_cancelled",
        "_epoch",
        "_on_cancel",
        "_pins",
        "_plugins",
        "label",
        "number",
        "started",
    )

    def __init__(self, epoch: Epoch, label: str, ambient: Ambient[Operation] | None = None) -> None:
        self._ambient: Final = ambient or Ambient()
        self._block: Block[Operation] | None = None  # of its `with` block
        self._epoch: Epoch | None = epoch
        self._pins: tuple[Lease, ...] = ()
        self._plugins: tuple[str, ...] = ()  # the plugin of each pin
        self._cancelled = False
        self._on_cancel: list[Callable[[], object]] = []
        self.label: Final = label
        self.number: Final = epoch.number
        self.started: Final = monotonic()

    @property
    def epoch(self) -> Epoch:
        """The epoch that this operation sees.

        Raises:
            OperationEndedError: it has ended, or has dropped its epoch with `narrow`.
        """
        epoch = self._epoch
        if epoch is None:
            raise OperationEndedError(
                f"operation {self.label!r} has ended or let its epoch go with narrow(); look "
                "exports up before that, and begin a new operation for new work, also for a task "
                "that goes on after it"
            )
        return epoch

    @property
    def pinned(self) -> Epoch | None:
        """`epoch`, or None if the operation has ended or has dropped it."""
        return self._epoch

    @property
    def id(self) -> str:
        """The epoch's id."""
        return self.epoch.id

    @property
    def generations(self) -> Mapping[str, Generation]:
        """Plugin id -> the generation that this operation sees."""
        return self.epoch.generations

    def __getitem__(self, kind: Kind[F]) -> Mapping[str, F]:
        return self.epoch[kind]

    @property
    def remote(self) -> RemoteTables:
        """The epoch's exports as objects that can be sent to other processes: `Epoch.remote`."""
        return self.epoch.remote

    def derived(self, key: Hashable, build: Callable[[Epoch], T]) -> T:
        """A value that a host computes once for the epoch; see `Epoch.derived`."""
        return self.epoch.derived(key, build)

    def run(self, function: Callable[..., T], /, *args: Any, **kw: Any) -> T:
        """Call a function within the operation, on any thread.

        For threads that do not carry it: `executor.submit(op.run, f, x)`,
        `Thread(target=op.run, args=(f, x))`.

        Args:
            function: is called; hosts that it uses work in this epoch.
            *args: passed to it.
            **kw: passed to it.
        """
        return self._ambient.run(self, function, *args, **kw)

    def narrow(self, plugins: Iterable[str]) -> None:
        """Drop the epoch and hold only the generations of these plugins.

        For long work that has looked up all its exports: it then holds up no reload of any other
        plugin. May be called again, with fewer plugins.

        Raises:
            UnknownPluginError: a plugin that is not in the epoch.
            OperationEndedError: the operation has ended, or has dropped that plugin before.
        """
        wanted = tuple(plugins)
        if self._epoch is None and set(wanted) <= set(self._plugins):
            held = dict(zip(self._plugins, self._pins, strict=False))
            pins = tuple(held[plugin] for plugin in wanted)
        else:
            pins = self.epoch.pins(wanted)
        # The new pins before the epoch goes: there is no instant without either.
        self._pins = pins
        self._plugins = wanted
        self._epoch = None

    def end(self) -> None:
        """End the operation. Idempotent."""
        self._epoch = None
        self._pins = self._plugins = ()
        self._on_cancel.clear()

    @property
    def cancelled(self) -> bool:
        """Whether the operation was asked to stop. Long work reads this now and then."""
        return self._cancelled

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Add a callback for `cancel`; it is called at once if the operation was cancelled before.

        It is called on the thread that cancels, at most once, and not after the end. A callback
        that refers to the operation makes a cycle: end the operation, as `with` does, rather than
        only drop it.
        """
        # Add, then look: the other order would miss a `cancel` that comes in between.
        self._on_cancel.append(callback)
        if self._cancelled:
            self._call_back()

    def cancel(self) -> None:
        """Ask the operation to stop. It holds the generations that it uses until it ends.

        Raises:
            ExceptionGroup: callbacks raised; all of them were called.
        """
        # Set, then call: see `on_cancel`.
        self._cancelled = True
        self._call_back()

    def _call_back(self) -> None:
        errors: list[Exception] = []
        while self._on_cancel:
            with suppress(IndexError):  # another thread took the last
                callback = self._on_cancel.pop()
                try:
                    callback()
                except Exception as error:  # noqa: BLE001  raised below; the others are called
                    errors.append(error)
        if errors:
            raise ExceptionGroup(f"cancelling operation {self.label!r}", errors)

    def holds(self, lease: Lease, plugin: str) -> bool:
        """Whether this operation pins that generation; diagnostics call this on any thread."""
        epoch, pins = self._epoch, self._pins
        return lease in pins or (epoch is not None and epoch.holds(lease, plugin))

    def __enter__(self) -> Operation:
        self._enter(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return self

    def _enter(self, frame: FrameType) -> None:
        """Begin the block in a frame."""
        if self._block is None:
            self._block = self._ambient.enter(self, frame)

    def __exit__(self, *exc: object) -> None:
        self.end()
        if (block := self._block) is not None:
            self._block = None
            self._ambient.exit(block, self)

    def __repr__(self) -> str:
        return f"<operation {self.label!r} on epoch {self.number}, {self.age:.1f} s>"

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return monotonic() - self.started

    def __reduce__(self) -> Any:
        raise TypeError("an operation pins code in this process; it cannot be copied or pickled")
