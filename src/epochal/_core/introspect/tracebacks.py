"""Errors that leave a change: with the plugin's frames, without ours.

A traceback holds its frames, a frame holds its variables and the frame that called it. The frames
of the machinery have leases among theirs, so an error that somebody keeps would hold generations in
use that it has nothing to do with; and they refer to the error, so dropping it would free nothing
until the collector runs. And what a plugin's author wants to see begins in the plugin. An error
that is not ours to raise keeps its whole story as a note, in text, which holds nothing.
"""

from __future__ import annotations

import traceback
from contextlib import suppress
from types import FrameType, TracebackType

from epochal._core.introspect.frames import caller_of
from epochal.errors import EpochalError

_MACHINERY = (
    "epochal._core.",
    "epochal.loaders.",
    "epochal.runtime",
    "epochal.store.",
    "importlib._bootstrap",
    "concurrent.futures.",
)


def format_error(error: BaseException) -> str:
    """An exception in one line: its type and the first line of its text, if it has any.

    A syntax error in a plugin is shown with its file's path, which its own text lacks.
    """
    name = type(error).__name__
    if isinstance(error, SyntaxError):
        path, generation_tag, _ = (error.filename or "").rpartition("@g")
        if generation_tag:
            return f"{name}: {error.msg} ({path}, line {error.lineno})"
    try:
        text = str(error).strip()
    except BaseException as worse:  # noqa: BLE001  foreign code, and must be reported
        return f"{name} (no text: its str() raised {type(worse).__name__})"
    return f"{name}: {text.splitlines()[0]}" if text else name


def without_machinery(error: BaseException) -> BaseException:
    """Take the machinery's frames out of an error's traceback, and out of its causes'.

    Returns:
        The same error.
    """
    if not isinstance(error, EpochalError):
        error.add_note("inside Epochal:\n" + "".join(traceback.format_tb(error.__traceback__)))
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _trimmed(current.__traceback__)
        todo += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            todo += current.exceptions
    return error


def without_variables(error: BaseException) -> BaseException:
    """Empty the frames of an error that kinds raised over exports, which are only lent to them.

    Returns:
        The same error, with its traceback.
    """
    traceback.clear_frames(error.__traceback__)
    return error


def _trimmed(entry: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while entry is not None:
        _empty_ours(entry.tb_frame)
        if not _is_machinery(entry.tb_frame):
            kept.append(entry)
        entry = entry.tb_next
    result: TracebackType | None = None
    for kept_entry in reversed(kept):
        frame, lasti, lineno = kept_entry.tb_frame, kept_entry.tb_lasti, kept_entry.tb_lineno
        result = TracebackType(result, frame, lasti, lineno)
    return result


def _empty_ours(frame: FrameType | None) -> None:
    """Drop the variables of the machinery's frames that a frame was called by."""
    while frame is not None:
        if _is_machinery(frame):
            with suppress(RuntimeError):  # it runs: then it drops them itself as it ends
                frame.clear()
        frame = caller_of(frame)


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_MACHINERY)
