"""The live screen: one frame from the board, for a terminal of any size.

The middle of it is the argument. Each line is a thread or task, time goes to the right, and a
colour is an epoch: a plugin was swapped at each change of colour. The ragged edges are the point of
the demonstration, since each query ends on the code that it began with.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from rich.console import ConsoleOptions, RenderResult

    from epochal.demo.board import Board, Notice

# Neighbours differ clearly, and none is the red or green that means bad or good.
PALETTE: Final = ("#4aa8ff", "#ffb454", "#c792ea", "#5ad4c8", "#f78fb3", "#d9d36a", "#8f9dff")
_NAME: Final = 10
_AFTER: Final = 11
_FRAME: Final = 8  # headline, progress, four sections, checks; and one line left free
_LINE_EVERY_S: Final = 2.0
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def color_of(epoch: int) -> str:
    """The colour of an epoch; its neighbours have others."""
    return PALETTE[epoch % len(PALETTE)]


@contextmanager
def follow(board: Board, console: Console) -> Generator[Callable[[], None]]:
    """Show a board for as long as the block runs: live in a terminal, else a line now and then.

    Yields:
        A function that the sampler calls after each sample: the thread that writes the board also
        draws it.
    """
    if console.is_terminal:
        with Live(Screen(board), console=console, auto_refresh=False) as live:
            yield live.refresh
        return
    yield lines_now_and_then(console, lambda: _line(board))


def lines_now_and_then(console: Console, line: Callable[[], str]) -> Callable[[], None]:
    """A function that prints a line, but not more often than every other second."""
    due = 0.0

    def on_sample() -> None:
        nonlocal due
        if monotonic() >= due:
            due = monotonic() + _LINE_EVERY_S
            console.print(line(), soft_wrap=True)

    return on_sample


def picture(board: Board) -> str:
    """The screen as an SVG picture, without the fonts that rich would have the reader download."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=118,
        height=34,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(Screen(board))
    return _FONTS.sub("", console.export_svg(title="epochal demo"))


class Screen:
    """Renders the board at the current size of the terminal."""

    def __init__(self, board: Board) -> None:
        self._board: Final = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        board = self._board
        height = options.height or console.height
        used = _FRAME + len(board.lanes) + len(board.serving)
        yield Group(
            _headline(board, options.max_width),
            _progress(board),
            _section("the epoch of each thread and task (a colour is an epoch)"),
            *_lanes(board, options.max_width, in_color=console.color_system is not None),
            _section("plugins"),
            _plugins(board),
            _section("changes"),
            *map(_notice, board.log(max(2, height - used))),
            _section("checked by the operations themselves"),
            _checks(board),
        )


def _section(title: str) -> Rule:
    return Rule(Text(title, style="dim"), align="left", style="dim", characters="─")


def _headline(board: Board, width: int) -> Text:
    line = Text.assemble(
        ("epochal demo", "bold"), f"  {board.stage.phase.value}  {board.elapsed:.1f} s"
    )
    rate = f"{board.rate():.0f} queries/s"
    line.append(" " * max(1, width - line.cell_len - len(rate)))
    return line.append(rate, "bold")


def _progress(board: Board) -> Text:
    draining = len(board.draining)
    return Text.assemble(
        "epoch ",
        (f"{board.epoch:<5}", f"bold {color_of(board.epoch)}"),
        f"changes {board.published}/{board.goal}",
        f"  {draining} draining" if draining else ("  none draining", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _lanes(board: Board, width: int, *, in_color: bool) -> Iterable[Text]:
    room = max(0, width - _NAME - _AFTER)
    for lane, strip in zip(board.lanes, board.strips, strict=True):
        line = Text(f"{lane.name:<{_NAME}}", no_wrap=True, overflow="crop")
        samples = list(strip)[-room:] if room else []
        for epoch, run in groupby(samples):
            cells = len(list(run))
            if epoch is None:
                line.append(" " * cells)
            elif in_color:
                line.append("█" * cells, color_of(epoch))
            else:
                line.append(str(epoch % 10) * cells)
        line.append(" " * (room - len(samples)))
        if (now := lane.epoch) is not None:
            line.append(f" epoch {now}", color_of(now))
        yield line


def _plugins(board: Board) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (_NAME - 2, 13, 9, None):
        table.add_column(min_width=width, no_wrap=True, overflow="ellipsis")
    waiting = sorted(board.draining.copy().items())
    for plugin, serves in board.serving.copy().items():
        ages = [f"#{n} {monotonic() - since:.1f} s" for (p, n), since in waiting if p == plugin]
        table.add_row(
            plugin,
            Text("○ removed", "dim") if serves is None else Text(f"● {serves}", "green"),
            Text(f"{board.removed[plugin]} removed", "dim"),
            Text(f"◐ draining {', '.join(ages)}" if ages else "", "yellow"),
        )
    return table


def _notice(notice: Notice) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis").append(f"{notice.at:5.1f} s  ", "dim")
    if notice.epoch is None:
        return line.append("refused   ", "yellow").append(notice.text, "default")
    line.append(f"epoch {notice.epoch:<4}", color_of(notice.epoch)).append(notice.text, "default")
    if notice.drained is None:
        return line.append("  ◐ draining", "yellow")
    return line.append(f"  {notice.drained}", "dim")


def _checks(board: Board) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{board.total('operations'):,} operations", "bold")
    for name, count in board.zeros().items():
        line.append("  ·  ").append(f"{count} {name}", "green" if count == 0 else "bold red")
    return line


def _line(board: Board) -> str:
    zeros = ", ".join(f"{count} {name}" for name, count in board.zeros().items())
    return (
        f"{board.elapsed:5.1f} s  epoch {board.epoch}, {board.published}/{board.goal} changes, "
        f"{len(board.draining)} draining; {board.total('operations'):,} operations, "
        f"{board.rate():.0f}/s; {zeros}"
    )
