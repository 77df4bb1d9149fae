"""Following the second act: a table in a terminal, a line now and then where there is none."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from epochal.demo.stateful.report import parts_table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console, RenderableType

    from epochal.demo.stateful.run import StatefulDemonstration

_LINE_EVERY_S: Final = 2.0


@contextmanager
def follow_stateful(
    demonstration: StatefulDemonstration, console: Console
) -> Generator[Callable[[], None], None, None]:
    """Show how the parts stand for as long as the block runs.

    Returns:
        A function to be called after each sample.
    """
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda: live.update(_screen(demonstration), refresh=True)
        return
    due = 0.0

    def line() -> None:
        nonlocal due
        if monotonic() >= due:
            due = monotonic() + _LINE_EVERY_S
            console.print(_line(demonstration), soft_wrap=True)

    yield line


def _screen(demonstration: StatefulDemonstration) -> RenderableType:
    head = Text("what keeps something is reloaded while it works\n", "bold")
    return Group(
        head,
        parts_table(demonstration.so_far(), judged=False),
        Text(),
        Text(_changes(demonstration)),
    )


def _line(demonstration: StatefulDemonstration) -> str:
    parts = ", ".join(f"{one.did:,} {one.unit}" for one in demonstration.so_far())
    return f"{_changes(demonstration)}; {parts}"


def _changes(demonstration: StatefulDemonstration) -> str:
    return f"{demonstration.published} reloads, {demonstration.refused} refused"
