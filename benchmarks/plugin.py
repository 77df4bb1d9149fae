"""The plugin and the host of the measurements."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from epochal import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = """\
# /// plugin
# id = "geo"
# version = "1.0.0"
# ///
from epochal.kinds import scalar


@scalar
def double(x: float) -> float:
    return x + x


@scalar
def enter(started: float) -> float:
    return started
"""

WORST = """\
# /// plugin
# id = "geo"
# version = "1.0.0"
# ///
import atexit
import logging
import threading

from epochal.kinds import scalar

BALLAST = "{ballast}"
STOP = threading.Event()


class Handler(logging.Handler):
    def emit(self, record):
        pass


def clean():
    pass


def poll():
    STOP.wait()


def init(ctx):
    atexit.register(clean)
    logging.getLogger().addHandler(Handler())
    threading.Thread(target=poll, name="geo-poll", daemon=True).start()


def shutdown():
    STOP.set()


@scalar
def double(x: float) -> float:
    return x + x
"""

CLASS = '''
class Shape{n}:
    """A shape."""

    def __init__(self, x):
        self.x = x

    def area(self):
        return self.x * {n}

    @property
    def half(self):
        return self.x / 2


def build{n}(a, b=1):
    """Build a shape."""
    shape = Shape{n}(a)
    return shape.area() + b
'''


def source(lines: int) -> str:
    """The text of a plugin with at least that many lines of classes and functions."""
    text, number = HEADER, 0
    while text.count("\n") < lines:
        text += CLASS.format(n=number)
        number += 1
    return text


def worst(kib: int = 233) -> str:
    """The text of a plugin of that size that adds an exit hook, a log handler and a thread."""
    return WORST.format(ballast="x" * (kib * 1024 - len(WORST)))


@contextmanager
def host(lines: int = 300, text: str | None = None) -> Iterator[tuple[Runtime, Path]]:
    """A runtime with one plugin, and the plugin's file.

    Args:
        lines: the least number of lines of the generated plugin.
        text: the plugin's text; None to generate it.
    """
    with TemporaryDirectory() as folder, Runtime() as runtime:
        path = Path(folder) / "geo.py"
        path.write_text(source(lines) if text is None else text)
        runtime.load(path)
        yield runtime, path
