"""The instances of one generation's code.

An instance is used by one call at a time. A plugin without state gets as many as there are calls at
once, and a call takes any that is idle. A plugin that says `stateful = true` has one, and calls
wait for it. An instance in which a call trapped, was stopped, or returned broken data is thrown
away: nothing is known of its memory. After five such calls in a row the breaker of jobs opens:
calls are refused at once for a minute, then one is tried.

Threads: any thread calls. `_idle` is a queue, whose steps are atomic; in that of a stateful plugin,
None stands for an instance that is to be made. `_busy` is changed one dictionary step at a time.
The breaker is used under `_lock`, never while the guest runs, and only once a call has failed.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import wasmtime

from epochal._core.plugin.wasm_sections import is_component
from epochal._core.sync.retry import Breaker, Circuit, RetryPolicy
from epochal.errors import GuestError, GuestTimeoutError, LinkError
from epochal.loaders.wasm.engine import compiled
from epochal.loaders.wasm.guest_store import CallStoppedError, GuestStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal._core.plugin.manifest import Manifest
    from epochal.loaders._kept_code import KeptCode
    from epochal.loaders.wasm.engine import Code
    from epochal.loaders.wasm.limits import GuestLimits

_MOST_IDLE: Final = 16

T = TypeVar("T", bound=GuestStore)


class InstancePool(ABC, Generic[T]):
    """The instances; none is made before `open`.

    Args:
        manifest: the plugin's.
        limits: what each instance may use.

    Attributes:
        plugin: the plugin's id.
        limits: as given.
        names: the functions that the module exports.
    """

    def __init__(self, manifest: Manifest, limits: GuestLimits) -> None:
        self.plugin: Final = manifest.id
        self.limits: Final = limits
        self.names: frozenset[str] = frozenset()
        self._is_single: Final = manifest.stateful
        self._code: Code | None = None
        self._begin: Callable[[T], object] = _nothing
        self._idle: Final[SimpleQueue[T | None]] = SimpleQueue()
        self._busy: Final[dict[int, T]] = {}
        self._is_closed = False
        self._interrupted = ""
        self._lock: Final = threading.Lock()
        self._breaker: Final = Breaker(RetryPolicy())
        self._rests_until = 0.0

    # --- the life of it ------------------------------------------------------------------------

    def open(self, content: bytes, kept: KeptCode | None) -> None:
        """Compile the code, check it, and make the first instance.

        Args:
            content: the binary.
            kept: where the store keeps compiled code; None for no store.

        Raises:
            LinkError: it is not valid, or not as the manifest and the interface have it; or what
                runs in a new instance trapped.
            CapabilityError: it imports what it is not given.
        """
        try:
            self._code = compiled(content, kept)
        except wasmtime.WasmtimeError as error:
            kind = "component" if is_component(content) else "module"
            raise self.refused(f"is not a valid {kind}: {_in_one_line(error)}") from None
        self.names = self._check(self._code)
        try:
            self._idle.put(self._make())
        except GuestError as error:  # its start function
            raise LinkError(str(error), plugin=self.plugin) from None

    @abstractmethod
    def _check(self, code: Code) -> frozenset[str]:
        """Check the compiled code; returns the functions of the plugin's life that it has."""

    @abstractmethod
    def _instantiate(self, code: Code) -> T:
        """Make an instance, which runs its start function; see `_make` for what it raises."""

    def begin_with(self, begin: Callable[[T], object]) -> None:
        """Call a function with the first instance, and with each that is made from now on."""
        self._begin = begin
        with self.instance() as instance:
            begin(instance)

    def interrupt(self, reason: str) -> None:
        """Stop every call that runs, and take no more. Any thread."""
        self._interrupted = reason
        # After the line above: a call enters itself, then looks whether it may go on.
        for instance in list(self._busy.values()):
            instance.stop(reason)

    def end_with(self, end: Callable[[T], object]) -> None:
        """Call a function with each idle instance, and give the instance back.

        Raises:
            GuestError: it failed with one; the others were called.
        """
        failed: GuestError | None = None
        for instance in self.drain():
            try:
                end(instance)
            except GuestError as error:
                failed = failed or error
            instance.close()
        if failed is not None:
            raise failed

    def drain(self) -> Iterator[T]:
        """Take out the idle instances."""
        with suppress(Empty):
            while True:
                instance = self._idle.get_nowait()
                if instance is not None:
                    yield instance

    def close(self) -> None:
        """Give back all memory; that of an instance that is called, once the call has ended."""
        self._is_closed = True
        self._code = None
        for instance in self.drain():
            instance.close()

    # --- instances -----------------------------------------------------------------------------

    @contextmanager
    def instance(self) -> Iterator[T]:
        """An instance for one call.

        Raises:
            GuestTimeoutError: the only one was not free in time.
            GuestError: none can be made.
        """
        instance = self._take()
        self._busy[instance.key] = instance
        try:
            if self._interrupted:
                instance.stop(self._interrupted)
            yield instance
        finally:
            del self._busy[instance.key]
            self._give(instance)

    def _take(self) -> T:
        try:
            found = self._idle.get(self._is_single, self.limits.call_timeout)
        except Empty:
            if self._is_single:
                raise self._timeout("the instance", "was not free") from None
            found = None
        if found is not None:
            return found
        try:
            instance = self._make()
            self._begin(instance)
        except BaseException:
            if self._is_single:
                self._idle.put(None)
            raise
        return instance

    def _give(self, instance: T) -> None:
        is_kept = not instance.is_broken and (self._is_single or self._idle.qsize() < _MOST_IDLE)
        if not is_kept or self._is_closed:
            instance.close()
        if is_kept or self._is_single:
            self._idle.put(instance if is_kept and not self._is_closed else None)
        if self._is_closed:  # perhaps between the two
            self.close()

    def _make(self) -> T:
        code = self._code
        if code is None:
            raise self.error("the code", "was removed, and can no longer be called")
        try:
            return self._instantiate(code)
        except CallStoppedError as error:
            raise self._stopped("the start function", error) from None
        except wasmtime.WasmtimeError as error:
            raise self.refused(
                f"cannot be instantiated within its limits (max_memory is "
                f"{self.limits.max_memory:,} bytes): {_in_one_line(error)}"
            ) from None

    # --- calls ---------------------------------------------------------------------------------

    def begin_call(self, function: str) -> None:
        """Refuse a call if too many before it failed.

        Raises:
            GuestError: it is not called now.
        """
        if self._breaker.state is not Circuit.CLOSED:
            self._begin_trial(function)

    def end_call(self) -> None:
        """Note that a call returned."""
        if self._breaker.failures:
            with self._lock:
                self._breaker.record_success()

    def stopped(self, instance: T, function: str, error: CallStoppedError) -> GuestError:
        """The error for a call that trapped or was stopped; its instance is thrown away."""
        return self._broken(instance, self._stopped(function, error))

    def broken(self, instance: T, function: str, message: str) -> GuestError:
        """The error for an instance that broke the interface; it is thrown away."""
        return self._broken(instance, self.error(function, message))

    def _broken(self, instance: T, error: GuestError) -> GuestError:
        instance.is_broken = True
        with self._lock:
            rest = self._breaker.record_failure()
            if self._breaker.state is Circuit.OPEN:
                self._rests_until = monotonic() + rest
        return error

    def _begin_trial(self, function: str) -> None:
        with self._lock:
            left = self._rests_until - monotonic()
            if self._breaker.state is Circuit.OPEN and left <= 0:
                self._breaker.begin()
                return
            failures = self._breaker.failures
        raise self.error(
            function,
            f"is not called for {max(left, 0):.0f} s, since {failures} calls in a row failed: "
            "reload the plugin in a version that does not",
        )

    def error(self, function: str, message: str) -> GuestError:
        """An error of a call."""
        return GuestError(message, plugin=self.plugin, function=function)

    def _timeout(self, function: str, event: str) -> GuestTimeoutError:
        message = f"{event} within {self.limits.call_timeout:g} s"
        return GuestTimeoutError(message, plugin=self.plugin, function=function)

    def _stopped(self, function: str, error: CallStoppedError) -> GuestError:
        cls = GuestTimeoutError if error.was_stopped else GuestError
        message = error.reason if error.was_stopped else f"trapped: {error.reason}"
        return cls(message, plugin=self.plugin, function=function, backtrace=error.backtrace)

    def refused(self, fault: str) -> LinkError:
        """The error for code that does not fit."""
        return LinkError(f"the module of plugin {self.plugin!r} {fault}", plugin=self.plugin)


def _nothing(_: object) -> None:
    """What begins an instance of code without `epochal_init`."""


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
