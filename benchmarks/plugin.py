"""The plugin and the host that the figures are measured on."""

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
    """Build one."""
    shape = Shape{n}(a)
    return shape.area() + b
'''


def source(lines: int) -> str:
    """A plugin of at least so many lines: classes, methods, properties, functions."""
    text, number = HEADER, 0
    while text.count("\n") < lines:
        text += CLASS.format(n=number)
        number += 1
    return text


def worst(kib: int = 233) -> str:
    """A plugin of so many KiB that leaves an exit hook, a log handler and a thread behind."""
    return WORST.format(ballast="x" * (kib * 1024 - len(WORST)))


@contextmanager
def host(lines: int = 300, text: str | None = None) -> Iterator[tuple[Runtime, Path]]:
    """A runtime that runs one plugin, of so many lines or with this text, and the plugin's file."""
    with TemporaryDirectory() as folder, Runtime() as runtime:
        path = Path(folder) / "geo.py"
        path.write_text(source(lines) if text is None else text)
        runtime.load(path)
        yield runtime, path
