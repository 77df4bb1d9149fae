"""Errors that leave a change: with the plugin's frames, without ours.

A traceback holds its frames; a frame holds its variables and its caller. The machinery's frames
have leases among their variables, so an error that a host keeps would hold unrelated generations in
use; and they refer to the error, so dropping it would free nothing until the collector runs. And
a plugin's author wants to see the plugin's frames. An error that is not ours keeps the whole
traceback as a note, in text, which holds nothing.
"""

from __future__ import annotations

import traceback
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.frames import caller_of
from epochal.errors import EpochalError, format_error, traceback_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_MACHINERY = (
    "epochal._core.",
    "epochal.loaders.",
    "epochal.runtime",
    "epochal.store.",
    "importlib._bootstrap",
    "concurrent.futures.",
)

# Not by name: the error may be of a class that answers for the attribute, or raises.
_CAUSE: Final[Any] = vars(BaseException)["__cause__"]
_CONTEXT: Final[Any] = vars(BaseException)["__context__"]
_PARTS: Final[Any] = vars(BaseExceptionGroup)["exceptions"]
_TRACEBACK: Final[Any] = vars(BaseException)["__traceback__"]


def without_machinery(error: BaseException) -> BaseException:
    """Remove the machinery's frames from the tracebacks of an error and of its causes.

    Returns:
        The same error.
    """
    if not isinstance(error, EpochalError):
        note = "inside Epochal:\n" + "".join(traceback.format_tb(traceback_of(error)))
        with suppress(Exception):  # a class of the plugin's may refuse notes
            error.add_note(note)
    for one in _chain(error):
        _TRACEBACK.__set__(one, _trimmed(traceback_of(one)))
    return error


def without_frames_of_causes(error: BaseException) -> BaseException:
    """Take the tracebacks off the errors that one came from: their frames may lead to an epoch.

    Returns:
        The same error, with its own traceback.
    """
    for one in _chain(error):
        if one is not error:
            _TRACEBACK.__set__(one, None)
    return error


def reported(error: BaseException) -> str:
    """A line about an error that is raised no further, whose frames are let go.

    A kind may raise one object again and again: its traceback would hold an epoch in use.
    """
    line = format_error(error)
    for one in _chain(error):
        _TRACEBACK.__set__(one, None)
    return line


def without_variables(error: BaseException) -> BaseException:
    """Empty the frames of an error that a kind raised: their variables are exports.

    Returns:
        The same error, with its traceback.
    """
    traceback.clear_frames(traceback_of(error))
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and each that it came from or consists of, once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        todo += origins_of(current)
        yield current


def origins_of(error: BaseException) -> list[BaseException | None]:
    """What an error came from, and consists of."""
    parts = _PARTS.__get__(error) if issubclass(type(error), BaseExceptionGroup) else ()
    return [_CAUSE.__get__(error), _CONTEXT.__get__(error), *parts]


def _trimmed(entry: TracebackType | None) -> TracebackType | None:
    entries: list[TracebackType] = []
    while entry is not None:
        _empty_ours(entry.tb_frame)
        if not _is_machinery(entry.tb_frame):
            entries.append(entry)
        entry = entry.tb_next
    result: TracebackType | None = None
    # New entries: `tb_next` of the old ones still leads to the machinery.
    for entry in reversed(entries):
        line: int | None = entry.tb_lineno
        # At an instruction of no line: a signal, or another thread, raised it.
        if line is None or line < 0:
            line = entry.tb_frame.f_code.co_firstlineno
        result = TracebackType(result, entry.tb_frame, entry.tb_lasti, line)
    return result


def _empty_ours(frame: FrameType | None) -> None:
    """Drop the variables of the machinery's frames among a frame and its callers."""
    while frame is not None:
        if _is_machinery(frame):
            with suppress(RuntimeError):  # it is running, and drops them itself when it returns
                frame.clear()
        frame = caller_of(frame)


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_MACHINERY)
