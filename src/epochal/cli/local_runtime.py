"""The runtime that a command runs in, and the options that several commands share.

An error holds the frames that it came through, a plugin's among them, and so the plugin is in use
until the error is told and dropped. A runtime that was closed while an error passes would wait for
it in vain. So commands only open runtimes; they are closed after the command, by whoever runs it
(`closing`), when its error is gone.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epochal.cli.console import warn
from epochal.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        "-p",
        metavar="PATH",
        help="A plugin to load: a .py file or a package's folder. May be given several times.",
        show_default=False,
    ),
]
Grants = Annotated[
    list[str] | None,
    typer.Option(
        "--grant",
        metavar="CAPABILITY",
        help="Grant this besides every kind: a service such as net:api.example.org, or net:*.",
        show_default=False,
    ),
]

EVERY_KIND: Final = "*"


def checked_limit(seconds: float | None) -> float | None:
    """A time limit that can be kept.

    Raises:
        BadParameter: it is none.
    """
    if seconds is not None and not seconds >= _SHORTEST_S:
        raise typer.BadParameter(
            f"{seconds:g} seconds are no time limit; {_SHORTEST_S} is the least"
        )
    return seconds


_SHORTEST_S: Final = 0.001
_DRAIN_TIMEOUT_S: Final = 10.0
_opened: Final[ContextVar[ExitStack]] = ContextVar("what the running command has opened")


@contextmanager
def closing() -> Generator[None, None, None]:
    """Close whatever was opened in the block, at its end."""
    with ExitStack() as opened:
        token = _opened.set(opened)
        try:
            yield
        finally:
            _opened.reset(token)


def open_runtime(plugins: Sequence[Path], grants: Sequence[str] | None = None) -> Runtime:
    """A runtime with these plugins loaded, all in one change; only inside `closing`.

    Raises:
        EpochalError: one of them cannot be loaded.
    """
    rt = Runtime(grants={EVERY_KIND, *(grants or ())}, drain_timeout=_DRAIN_TIMEOUT_S)
    _opened.get().callback(_close, rt)
    if plugins:
        with rt.change() as change:
            for path in plugins:
                change.load(path)
    return rt


def _close(rt: Runtime) -> None:
    cutover = rt.close()
    assert cutover is not None  # nobody else closes it
    for failure in cutover.failures:
        warn(failure)
    for holder in cutover.holders:
        warn(f"a plugin was not shut down, because it is still in use: {holder}")
