"""The stacks of other threads, read without the collector between two steps.

To look at a call that runs is to have the interpreter make a frame object for it, which before
Python 3.12 may start a collection, and what runs in there gives way to the thread that is looked
at. When it comes back, the call may be over and its memory another's: what is returned as a frame
is then whatever lies there, and may be gone already. So the collector is off while one is made.

Who reads, who writes: the collector's switch belongs to whoever has ``_looking``, under which no
foreign code is called. A host that turns the collector off in the same instant finds it on.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_looking = threading.RLock()
_is_off = False


@contextmanager
def undisturbed() -> Iterator[None]:
    """Read frames of other threads in here: not within a collection, if that could do harm."""
    global _is_off
    if sys.version_info >= (3, 12):  # collections begin between two instructions, never within one
        yield
        return
    with _looking:
        turns_off = gc.isenabled()
        _is_off |= turns_off
        gc.disable()
        try:
            yield
        finally:
            if turns_off:
                _is_off = False
                gc.enable()


def innermost_calls() -> dict[int, FrameType]:
    """The innermost frame of every thread, by the thread's ident."""
    with undisturbed():
        return sys._current_frames()  # noqa: SLF001  its only name


def calls_of(frame: FrameType | None) -> list[FrameType]:
    """A frame and those that it was called by, innermost first, without this library's."""
    found: list[FrameType] = []
    with undisturbed():
        while frame is not None:
            found.append(frame)  # kept: one that is over would be freed here, with what it holds
            frame = frame.f_back
    theirs = [call for call in found if not _is_ours(call)]
    found.clear()  # a function that held its own frame would never be freed
    return theirs


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith(("epochal._core.", "epochal.runtime"))


def caller_of(frame: FrameType) -> FrameType | None:
    """The frame that a frame was called by; None for the outermost."""
    with undisturbed():
        return frame.f_back


def _after_fork() -> None:
    """The thread that looked is not here: what it would do next is done."""
    global _looking, _is_off
    _looking = threading.RLock()
    if _is_off:
        _is_off = False
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
