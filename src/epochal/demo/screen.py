"""The live screen: one frame from the board, for a terminal of any size.

The middle of it is the argument. Each line is a thread or task, time goes to the right, and a
colour is an epoch: where the colour changes, a plugin was swapped. That the edges are ragged is
what the demonstration is about, since each query ends on the code that it began with.
"""

from __future__ import annotations

from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from epochal.demo.lanes import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from epochal.demo.board import Board, Notice

# Neighbours differ clearly, and none is the red or green that means bad or good.
PALETTE: Final = ("#4aa8ff", "#ffb454", "#c792ea", "#5ad4c8", "#f78fb3", "#d9d36a", "#8f9dff")
_DOING: Final = {
    Phase.QUIET: "first, nothing changes",
    Phase.CHANGES: "plugins change under load",
    Phase.CLOSING: "everything is removed",
}
_BARS: Final = "▁▂▃▄▅▆▇█"
_NAME: Final = 10
_AFTER: Final = 11
_FRAME: Final = 8  # headline, progress, four sections, checks; and one line left free


def color_of(epoch: int) -> str:
    """The colour of an epoch; the next one's is another."""
    return PALETTE[epoch % len(PALETTE)]


class Screen:
    """Renders the board at the size that the terminal has now."""

    def __init__(self, board: Board) -> None:
        self._board: Final = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        board = self._board
        height = options.height or console.height
        used = _FRAME + len(board.lanes) + len(board.serving)
        yield Group(
            _headline(board, options.max_width),
            _progress(board),
            _section("who runs on which epoch (a colour is an epoch)"),
            *_lanes(board, options.max_width, in_color=console.color_system is not None),
            _section("plugins"),
            _plugins(board),
            _section("changes"),
            *_log(board.log(max(2, height - used))),
            _section("checked by the operations themselves"),
            _checks(board),
        )


def _section(title: str) -> Rule:
    return Rule(Text(title, style="dim"), align="left", style="dim", characters="─")


# --- the parts, from top to bottom -------------------------------------------------------------


def _headline(board: Board, width: int) -> Text:
    doing = _DOING[board.phase]
    left = Text.assemble(
        ("epochal demo", "bold"), f"  {doing}  ", (f"{board.elapsed:.1f} s", "dim")
    )
    right = f"{board.rate:.0f} queries/s "
    room = max(0, min(30, width - left.cell_len - len(right) - 2))
    left.append(" " * max(1, width - left.cell_len - len(right) - room - 1))
    left.append(right, "bold").append(sparkline(list(board.rates), room), "cyan")
    return left


def _progress(board: Board) -> Table:
    row = Table.grid(padding=(0, 2, 0, 0), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    draining = len(board.draining)
    row.add_row(
        Text.assemble("epoch ", (f"{board.epoch}", f"bold {color_of(board.epoch)}")),
        f"changes {board.published}/{board.goal}",
        ProgressBar(
            total=max(1, board.goal),
            completed=board.published,
            complete_style=PALETTE[0],
            finished_style=PALETTE[0],
        ),
        f"{draining} draining" if draining else Text("none draining", "dim"),
    )
    return row


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
        now = lane.epoch
        line.append(" " if now is None else f" epoch {now}", "" if now is None else color_of(now))
        yield line


def _plugins(board: Board) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=_NAME - 2, no_wrap=True)
    table.add_column(min_width=13, no_wrap=True)
    table.add_column(min_width=9, no_wrap=True, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis")
    waiting = sorted(board.draining.copy().items())
    for plugin, serves in board.serving.copy().items():
        here = [(number, since) for (owner, number), since in waiting if owner == plugin]
        table.add_row(
            plugin,
            Text("○ away", "dim") if serves is None else Text(f"● {serves}", "green"),
            Text(f"{board.removed.get(plugin, 0)} removed", "dim"),
            _draining(here),
        )
    return table


def _draining(generations: Sequence[tuple[int, float]]) -> Text:
    if not generations:
        return Text("")
    words = [f"#{number} {monotonic() - since:.1f} s" for number, since in generations]
    return Text(f"◐ draining {', '.join(words)}", "yellow")


def _log(notices: Sequence[Notice]) -> Iterable[RenderableType]:
    for notice in notices:
        line = Text(no_wrap=True, overflow="ellipsis").append(f"{notice.at:5.1f} s  ", "dim")
        if notice.epoch is None:
            line.append("refused   ", "yellow").append(notice.text, "default")
            yield line
            continue
        line.append(f"epoch {notice.epoch:<4}", color_of(notice.epoch))
        line.append(notice.text, "default")
        if not notice.drains:
            pass
        elif notice.drained_ms is None:
            line.append("  ◐ draining", "yellow")
        else:
            line.append(f"  drained in {notice.drained_ms:.0f} ms", "dim")
        yield line


def _checks(board: Board) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{board.total('operations'):,} operations", "bold")
    for words, count in counts(board):
        line.append("  ·  ").append(f"{count} {words}", "green" if count == 0 else "bold red")
    return line


def counts(board: Board) -> list[tuple[str, int]]:
    """What must be zero, as it stands now."""
    return [
        ("failed", board.total("failed")),
        ("mixed", board.total("mixed")),
        ("after shutdown", board.total("used_after_shutdown")),
        ("missing", board.missing),
    ]


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as bars of one cell each."""
    shown = values[-width:] if width else []
    highest = max(shown, default=0.0)
    if highest <= 0.0:
        return ""
    return "".join(_BARS[round(value / highest * (len(_BARS) - 1))] for value in shown)
