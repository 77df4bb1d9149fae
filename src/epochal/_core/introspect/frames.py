"""The stacks of other threads, read without the collector between two steps.

A look at a running call makes the interpreter create a frame object for it. Before Python 3.12
that may start a collection, whose callbacks give way to the thread that is looked at. When the look
goes on, the call may be over and its memory reused: the returned "frame" is then any other object,
and may be freed already. So the collector is off while a frame object is made.

Reads and writes: the thread that holds ``_looking`` may turn the collector off and on, and
calls no foreign code meanwhile. A host that turns the collector off in the same instant finds it
on.
"""

from __future__ import annotations

import gc
import inspect
import opcode
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from epochal._core.sync.forks import in_forked_child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType, FrameType

_RESUME: Final = opcode.opmap["RESUME"]
_AFTER_AWAIT: Final = 3

_looking = threading.RLock()
_is_off = False


@contextmanager
def undisturbed() -> Iterator[None]:
    """Read frames of other threads inside this block: no collection runs where it could do harm."""
    global _is_off
    if sys.version_info >= (3, 12):  # collections begin between two instructions, never within one
        yield
        return
    with _looking:
        turns_off = gc.isenabled()
        try:
            _is_off |= turns_off  # before the switch: a fork in between must turn it on again
            gc.disable()
            yield
        finally:
            if turns_off:
                _is_off = False
                gc.enable()


def innermost_calls() -> dict[int, FrameType]:
    """The innermost frame of every thread, by the thread's ident."""
    with undisturbed():
        return sys._current_frames()  # noqa: SLF001  its only name


def all_calls_of(frame: FrameType | None) -> list[FrameType]:
    """A frame and its callers, innermost first."""
    calls: list[FrameType] = []
    with undisturbed():
        while frame is not None:
            calls.append(frame)  # held: a frame that ended would be freed here, with its variables
            frame = frame.f_back
    return calls


def calls_of(frame: FrameType | None) -> list[FrameType]:
    """A frame and its callers, innermost first, without this library's frames."""
    calls = all_calls_of(frame)
    theirs = [call for call in calls if not _is_ours(call)]
    calls.clear()  # this frame may be among them, and would be in a cycle with its own variable
    return theirs


def innermost_inside(frame: FrameType | None, globals_ids: frozenset[int]) -> list[FrameType]:
    """The innermost of a frame and its callers whose globals are among these, if one is."""
    calls = all_calls_of(frame)
    inside = [call for call in calls if id(call.f_globals) in globals_ids]
    calls.clear()  # as above
    return inside[:1]


def calls_running(frame: FrameType | None, code: CodeType) -> list[FrameType]:
    """Those of a frame and its callers that run this code, innermost first."""
    calls = all_calls_of(frame)
    running = [call for call in calls if call.f_code is code]
    calls.clear()  # as above
    return running


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith(("epochal._core.", "epochal.runtime"))


def caller_of(frame: FrameType) -> FrameType | None:
    """The caller of a frame; None for the outermost."""
    with undisturbed():
        return frame.f_back


def is_between_yields(frame: FrameType) -> bool:
    """Whether a generator's frame, also an asynchronous one's, waits at a `yield` for its consumer.

    An asynchronous generator also rests where it awaits; the instruction that it would go on with
    (``RESUME``) has that in its argument (https://docs.python.org/3/library/dis.html).
    """
    if caller_of(frame) is not None:
        return False  # it runs
    code, at = frame.f_code, frame.f_lasti
    if not code.co_flags & inspect.CO_ASYNC_GENERATOR:
        return True
    # Python 3.13 counts the instruction to go on with as the last, earlier versions the one before.
    resume = at if code.co_code[at] == _RESUME else at + 2
    return code.co_code[resume + 1] & 3 != _AFTER_AWAIT


def locals_of(frame: FrameType) -> Mapping[str, Any]:
    """A copy of a running call's variables.

    Before Python 3.13 reading `f_locals` leaves a snapshot of all variables in the frame, which
    would keep them alive until the call ends: it is emptied again, unless other code has it.
    """
    # A module's variables are found as the module's. A frame that is being traced is left alone:
    # the tracer writes this snapshot back into the variables.
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED or frame.f_trace is not None:
        return {}
    with undisturbed():
        snapshot = frame.f_locals
    copied = dict(snapshot)
    # Three references: the frame's, this variable's, the argument's. So no other code has it.
    if sys.version_info < (3, 13) and sys.getrefcount(snapshot) <= 3:
        snapshot.clear()
    return copied


def _after_fork() -> None:
    """Finish the look of a thread that the child does not have."""
    global _looking, _is_off
    _looking = threading.RLock()
    if _is_off:
        _is_off = False
        gc.enable()


in_forked_child(_after_fork)
