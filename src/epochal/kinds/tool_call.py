"""The call of a tool that is under way, as the plugin's code sees it.

::

    from epochal.kinds.tool_call import cancelled, log, progress

    @tool
    def index(folder: str) -> int:
        "Index a folder."
        for n, file in enumerate(files := sorted(Path(folder).iterdir())):
            if cancelled():
                break
            progress(n, len(files), file.name)
        ...

Outside of a call all of them do nothing, so a plugin's own tests need no host. A host makes a
`ToolCall` and calls the tool within `running`. It is found in a context variable: tasks and
`asyncio.to_thread` carry it, other threads do not.

Which thread writes: the tool's own thread calls `progress` and `log`, which hand on what they are
given; any thread sets ``is_cancelled``, once, and the tool's reads it.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from epochal.errors import ToolCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class CallReporter(Protocol):
    """Takes what a tool reports; a host implements it. Called on the tool's thread."""

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """The tool has come so far."""
        ...

    def log(self, level: LogLevel, text: str) -> None:
        """The tool has something to say to its caller."""
        ...


class ToolCall:
    """One call of a tool.

    Args:
        tool: the tool's full name.
        reporter: takes progress and logs; None drops them.
        timeout: seconds that the call may take; None for no limit.

    Attributes:
        tool: the tool's full name.
        is_cancelled: whether the caller gave up, or the time is over.
    """

    __slots__ = ("_ends", "_reporter", "is_cancelled", "tool")

    def __init__(
        self, tool: str, reporter: CallReporter | None = None, timeout: float | None = None
    ) -> None:
        self.tool: Final = tool
        self.is_cancelled = False
        self._reporter: Final = reporter
        self._ends: Final = None if timeout is None else monotonic() + timeout

    def remaining(self) -> float | None:
        """Seconds that are left; None for no limit."""
        return None if self._ends is None else max(0.0, self._ends - monotonic())

    def cancel(self) -> None:
        """Ask the tool to stop: `cancelled()` is true from now on. Idempotent."""
        self.is_cancelled = True

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Hand progress on to the host."""
        if self._reporter is not None and not self.is_cancelled:
            self._reporter.progress(done, total, message)

    def log(self, text: str, level: LogLevel = "info") -> None:
        """Hand a line on to the host."""
        if self._reporter is not None and not self.is_cancelled:
            self._reporter.log(level, text)


_current: Final[ContextVar[ToolCall | None]] = ContextVar("epochal tool call", default=None)


def current_call() -> ToolCall | None:
    """The call that the running code belongs to; None outside of a call."""
    return _current.get()


@contextmanager
def running(call: ToolCall) -> Iterator[None]:
    """Make a call the current one; for hosts."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Report to the caller how far the tool has come.

    Args:
        done: counts up.
        total: its value at the end; None if that is not known.
        message: the work in words.
    """
    if (call := _current.get()) is not None:
        call.progress(done, total, message)


def log(text: str, level: LogLevel = "info") -> None:
    """Send a line to the caller, which may show it to a person."""
    if (call := _current.get()) is not None:
        call.log(text, level)


def cancelled() -> bool:
    """Whether the caller gave up, or the time is over: a long function reads this now and then.

    A coroutine needs not: it is cancelled as any task is.
    """
    call = _current.get()
    return call is not None and call.is_cancelled


def check_cancelled() -> None:
    """Raise if the caller gave up, or the time is over.

    Raises:
        ToolCancelledError: so it is; it ends the tool, and its text goes to nobody.
    """
    call = _current.get()
    if call is not None and call.is_cancelled:
        raise ToolCancelledError(f"the call of {call.tool} was given up", tool=call.tool)


def remaining() -> float | None:
    """Seconds that the call may still take; None for no limit, or outside of a call."""
    call = _current.get()
    return None if call is None else call.remaining()
