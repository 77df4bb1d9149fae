"""A moving picture of a run: its real frames as one SVG file, which plays in a web page.

Each frame is a grid of characters. A row is written once for each time that it changes, and shown
for as long as it stood; so the file holds what moved, and no frame twice. It fetches nothing, runs
no script, and stands still, at the report, where a reader asks for less motion.
"""

from __future__ import annotations

import io
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    Run: TypeAlias = tuple[int, str, Style]  # column, text, style
    Row: TypeAlias = tuple[Run, ...]

_WIDTH: Final = 92  # characters
_HEIGHT: Final = 26
_CELL: Final = (8.4, 17.0)  # pixels
_BARS: Final = {"█": (2, 13), "─": (8, 1)}  # from the top of its row, and how thick
_LAST_FRAMES: Final = 10  # for which the report stands
_HEAD: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">
<title>epochal demo: plugins are swapped under queries, and no query is wrong</title>
<style>
text {{ font: 13.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre }}
.m {{ visibility: hidden; animation: {seconds:g}s step-end infinite }}
{keyframes}
@media (prefers-reduced-motion: reduce) {{
.m {{ animation: none }} .last {{ visibility: visible }}
}}
</style>
<rect width="100%" height="100%" rx="8" fill="#1b1d23"/>
"""


class Film:
    """The frames of a run, taken while it runs by one thread.

    Args:
        frame_s: seconds for which each frame is shown.
    """

    def __init__(self, frame_s: float) -> None:
        self._frame_s: Final = frame_s
        self._frames: Final[list[list[Row]]] = []
        self._console: Final = Console(
            file=io.StringIO(),
            width=_WIDTH,
            height=_HEIGHT,
            color_system="truecolor",
            force_terminal=True,
            no_color=False,
            legacy_windows=False,
        )

    def take(self, renderable: RenderableType) -> None:
        """Add a frame."""
        lines = self._console.render_lines(renderable, pad=False)
        rows = [tuple(_runs(line)) for line in lines[:_HEIGHT]]
        self._frames.append(rows + [()] * (_HEIGHT - len(rows)))

    def svg(self) -> str:
        """The frames so far, the last of them for some seconds."""
        frames = [*self._frames, *self._frames[-1:] * _LAST_FRAMES]
        shown: dict[tuple[int, int], int] = {}  # from one frame to another -> its number
        body: list[str] = []
        for index in range(_HEIGHT):
            start = 0
            for row, same in groupby(frame[index] for frame in frames):
                end = start + len(list(same))
                if row:
                    body.append(_draw(row, index, self._class_of(shown, start, end, len(frames))))
                start = end
        head = _HEAD.format(
            width=_WIDTH * _CELL[0] + 20,
            height=_HEIGHT * _CELL[1] + 20,
            seconds=len(frames) * self._frame_s,
            keyframes="\n".join(_keyframes(shown, len(frames))),
        )
        return head + "\n".join(body) + "\n</svg>\n"

    @staticmethod
    def _class_of(shown: dict[tuple[int, int], int], start: int, end: int, count: int) -> str:
        if (start, end) == (0, count):
            return ""
        number = shown.setdefault((start, end), len(shown))
        return f"m k{number} last" if end == count else f"m k{number}"


def _keyframes(shown: dict[tuple[int, int], int], count: int) -> Iterator[str]:
    for (start, end), number in shown.items():
        first, last = (100.0 * frame / count for frame in (start, end))
        hidden = "" if start == 0 else "0%{visibility:hidden}"
        again = "" if end == count else f"{last:.2f}%{{visibility:hidden}}"
        yield f".k{number} {{ animation-name: k{number} }}"
        yield f"@keyframes k{number} {{ {hidden}{first:.2f}%{{visibility:visible}}{again} }}"


def _runs(line: list[Segment]) -> Iterator[Run]:
    column = 0
    for segment in Segment.simplify(line):
        if segment.text.strip():
            lead = len(segment.text) - len(segment.text.lstrip())
            yield column + lead, segment.text.strip(), segment.style or Style.null()
        column += segment.cell_length


def _draw(row: Row, index: int, css: str) -> str:
    wide, high = _CELL
    top = 10 + index * high
    parts = []
    for column, text, style in row:
        left, width = 10 + column * wide, len(text) * wide
        look = f'fill="{_color(style)}"' + (' opacity=".6"' if style.dim else "")
        if text[0] in _BARS and len(set(text)) == 1:
            down, thick = _BARS[text[0]]
            shape = f"M{left:.1f} {top + down:.0f}h{width:.1f}v{thick}h-{width:.1f}"
            parts.append(f'<path d="{shape}" {look}/>')
        else:
            bold = ' font-weight="bold"' if style.bold else ""
            place = f'x="{left:.1f}" y="{top + 13:.0f}" textLength="{width:.1f}"'
            parts.append(f"<text {place} {look}{bold}>{escape(text)}</text>")
    group = f'<g class="{css}">' if css else "<g>"
    return f"{group}{''.join(parts)}</g>"


def _color(style: Style) -> str:
    if style.color is None or style.color.is_default:
        return "#d5d9e0"
    return style.color.get_truecolor(SVG_EXPORT_THEME).hex
