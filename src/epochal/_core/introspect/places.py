"""Places in code, as reports show them; they hold no frame."""

from __future__ import annotations

import inspect
from contextlib import suppress
from pathlib import PurePath
from types import FunctionType
from typing import TYPE_CHECKING

from epochal._core.introspect.callables import callables_inside

if TYPE_CHECKING:
    from types import CodeType, FrameType


def place_of(frame: FrameType) -> str:
    """`geo.py:41 in poll`, without holding the frame."""
    return place_in(frame.f_code, frame.f_lineno)


def place_in(code: CodeType, line: int | None) -> str:
    """`geo.py:41 in poll`; the generation's tag on the file name is left out."""
    file = PurePath(code.co_filename).name.partition("@")[0]
    return f"{file}:{line if line is not None else code.co_firstlineno} in {code.co_qualname}"


def defined_at(target: object) -> str:
    """` (plugins/geo.py, line 7)`: where a plugin defines it; empty if unknown."""
    for inner in callables_inside(target):
        if type(inner) is FunctionType and "@g" in inner.__code__.co_filename:
            return _defined_at(inner.__code__.co_filename, inner.__code__.co_firstlineno)
        if issubclass(type(inner), type):
            with suppress(Exception):  # a metaclass is foreign code; a source may be lacking
                file, line = inspect.getsourcefile(inner), inspect.getsourcelines(inner)[1]
                return _defined_at(file or "", line)
    return ""


def _defined_at(file: str, line: int) -> str:
    return f" ({file.rpartition('@g')[0] or file}, line {line})"
