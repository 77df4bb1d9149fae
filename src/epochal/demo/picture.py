"""A picture of the live screen, taken while a run goes on: what a terminal shows at that moment."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

from rich.console import Console

from epochal.demo.screen import Screen

if TYPE_CHECKING:
    from pathlib import Path

    from epochal.demo.board import Board

_WIDTH: Final = 118
_HEIGHT: Final = 34
_AT: Final = 0.8  # of the changes
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class Camera:
    """Takes one picture: late in a run, with changes of all sorts behind it and drains under way.

    Args:
        board: of the run.
        path: the SVG file.
    """

    __slots__ = ("_board", "_path", "_svg")

    def __init__(self, board: Board, path: Path) -> None:
        self._board: Final = board
        self._path: Final = path
        self._svg: str | None = None

    def on_sample(self) -> None:
        """Take it, if this is the moment."""
        board = self._board
        if self._svg is None and board.draining and board.published >= board.goal * _AT:
            self._svg = self._take()

    def save(self) -> None:
        """Write the file; where the moment never came, with the screen as it is at the end."""
        self._path.write_text(self._svg or self._take(), encoding="utf-8")

    def _take(self) -> str:
        console = Console(
            record=True,
            file=io.StringIO(),
            width=_WIDTH,
            height=_HEIGHT,
            force_terminal=True,
            color_system="truecolor",
        )
        console.print(Screen(self._board))
        # Without the fonts that rich would have the picture fetch: it shows the reader's own.
        return _FONTS.sub("", console.export_svg(title="epochal demo"))
