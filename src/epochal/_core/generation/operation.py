"""An operation: one unit of work, pinned to one epoch, with a name and a definite end.

Reading `runtime.epoch` pins as well and costs less. An operation adds what a person wants to know
when a drain waits for it, a label and an age, and it ends when it is told to, even if the variable
that it was bound to lives on.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal.errors import OperationEndedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Kind
    from epochal._core.use.lease import Lease

    F = TypeVar("F")

T = TypeVar("T")


class Operation:
    """A labelled pin on one epoch; made by `Runtime.operation`, used as a context manager.

    It offers what an epoch offers: `op[kind]["plugin.name"]`, `number`, `id`, `generations`.

    Attributes:
        label: what the work is, for whoever asks who holds a drain up.
        number: the epoch's number; known after the end too.
        started: when it began, in seconds of `time.monotonic`.
    """

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_epoch",
        "_on_cancel",
        "_pins",
        "_plugins",
        "label",
        "number",
        "started",
    )

    # Written by the thread that runs the operation (`narrow`, `end`); read by that thread and by
    # diagnostics in others, which see the old value or the new one.
    _epoch: Epoch | None
    _pins: tuple[Lease, ...]
    _plugins: tuple[str, ...]  # whose these are
    # `cancel` sets the first and then takes the others; `on_cancel` adds and then looks at the
    # first: so a callback is called by one of the two, whichever comes second.
    _cancelled: bool
    _on_cancel: list[Callable[[], object]]

    def __init__(self, epoch: Epoch, label: str) -> None:
        self._epoch = epoch
        self._pins = ()
        self._plugins = ()
        self._cancelled = False
        self._on_cancel = []
        self.label: Final = label
        self.number: Final = epoch.number
        self.started: Final = monotonic()

    @property
    def epoch(self) -> Epoch:
        """The epoch that this operation sees.

        Raises:
            OperationEndedError: it has ended, or let its epoch go with `narrow`.
        """
        epoch = self._epoch
        if epoch is None:
            raise OperationEndedError(
                f"operation {self.label!r} has ended or let its epoch go; "
                "look exports up before that, and begin a new operation for new work"
            )
        return epoch

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

    def derived(self, key: Hashable, build: Callable[[Epoch], T]) -> T:
        """A value that a host computes once for the epoch; see `Epoch.derived`."""
        return self.epoch.derived(key, build)

    def narrow(self, plugins: Iterable[str]) -> None:
        """Let the epoch go and hold only the generations of these plugins.

        For long work that has looked up all it needs: it then holds up no reload of any other. May
        be called again, with fewer of them.

        Raises:
            UnknownPluginError: a plugin that is not in the epoch.
            OperationEndedError: it has ended, or let that plugin go before.
        """
        wanted = tuple(plugins)
        if self._epoch is None and set(wanted) <= set(self._plugins):
            held = dict(zip(self._plugins, self._pins, strict=False))
            pins = tuple(held[plugin] for plugin in wanted)
        else:
            pins = self.epoch.pins(wanted)
        # First the new pins, then the old one goes: no instant without either.
        self._pins = pins
        self._plugins = wanted
        self._epoch = None

    def end(self) -> None:
        """End the operation; doing so again does nothing."""
        self._epoch = None
        self._pins = self._plugins = ()
        self._on_cancel.clear()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop. Long work looks at this now and then, and ends early."""
        return self._cancelled

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when this operation is asked to stop; at once if it was already.

        It is called in whatever thread asks, at most once, and not after the end. A callback that
        refers to the operation makes a cycle until then: end it, as `with` does, not only drop it.
        """
        self._on_cancel.append(callback)
        if self._cancelled:
            self._call_back()

    def cancel(self) -> None:
        """Ask whoever runs this operation to stop. It goes on holding what it uses until it ends.

        Raises:
            ExceptionGroup: callbacks raised; all of them were called.
        """
        self._cancelled = True
        self._call_back()

    def _call_back(self) -> None:
        errors: list[Exception] = []
        while self._on_cancel:
            with suppress(IndexError):  # another thread took the last
                callback = self._on_cancel.pop()
                try:
                    callback()
                except Exception as error:  # noqa: BLE001  told below; the others are called
                    errors.append(error)
        if errors:
            raise ExceptionGroup(f"cancelling operation {self.label!r}", errors)

    def holds(self, lease: Lease, plugin: str) -> bool:
        """Whether this operation pins that generation (asked by diagnostics, in any thread)."""
        epoch, pins = self._epoch, self._pins
        return lease in pins or (epoch is not None and epoch.holds(lease, plugin))

    def __enter__(self) -> Operation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<operation {self.label!r} on epoch {self.number}, {self.age:.1f} s>"

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return monotonic() - self.started

    def __reduce__(self) -> Any:
        raise TypeError("an operation pins code in this process; it cannot be copied or pickled")
