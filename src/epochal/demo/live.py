"""Following a run: the live screen in a terminal, a line now and then where there is none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.live import Live

from epochal.demo.screen import Screen, counts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console

    from epochal.demo.board import Board

_LINE_EVERY_S: Final = 2.0


@contextmanager
def follow(board: Board, console: Console) -> Generator[Callable[[], None], None, None]:
    """Show a board for as long as the block runs.

    Returns:
        A function to be called after each sample, by whoever samples: the board is drawn by the
        thread that writes it.
    """
    if not console.is_terminal:
        yield _Lines(board, console)
        return
    with Live(Screen(board), console=console, auto_refresh=False) as live:
        yield live.refresh


class _Lines:
    """Writes a line of progress every other second."""

    __slots__ = ("_board", "_console", "_due")

    def __init__(self, board: Board, console: Console) -> None:
        self._board: Final = board
        self._console: Final = console
        self._due = 0.0

    def __call__(self) -> None:
        board = self._board
        if board.elapsed < self._due:
            return
        self._due = board.elapsed + _LINE_EVERY_S
        zeros = ", ".join(f"{count} {words}" for words, count in counts(board))
        self._console.print(
            f"{board.elapsed:5.1f} s  epoch {board.epoch}, {board.published}/{board.goal} changes, "
            f"{len(board.draining)} draining; {board.total('operations'):,} operations, "
            f"{board.rate:.0f}/s; {zeros}",
            soft_wrap=True,
        )
