"""Places in code, as reports show them; they hold no frame."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType


def place_of(frame: FrameType) -> str:
    """`geo.py:41 in poll`, without holding the frame."""
    return place_in(frame.f_code, frame.f_lineno)


def place_in(code: CodeType, line: int | None) -> str:
    """`geo.py:41 in poll`; the generation's tag on the file name is left out."""
    file = PurePath(code.co_filename).name.partition("@")[0]
    return f"{file}:{line if line is not None else code.co_firstlineno} in {code.co_qualname}"
