"""The path of a reload through the files of `src/epochal`, and the calls that go back up.

Traces the reload of an empty plugin, on the caller's thread and on the change's. It prints each
file with code that ran, and each call that goes *up*: into a file on a higher floor than the
caller's (`tests/unit/test_layers.py` lists the floors). A call through a stored callable counts
like any other.

    python -m benchmarks.reload_trace
"""

from __future__ import annotations

import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.unit.test_layers import floor_of

import epochal
from epochal import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SOURCES: Final = Path(epochal.__file__).parent
_HEAD: Final = '# /// plugin\n# id = "empty"\n# version = "{version}"\n# ///\n'


@dataclass(frozen=True, slots=True)
class Trace:
    """The files and calls of a reload.

    Attributes:
        files: the files with code that ran, as paths below `src/epochal`.
        edges: each pair of a calling file and a called one.
        up: the `edges` that lead to a higher floor.
    """

    files: frozenset[str]
    edges: frozenset[tuple[str, str]]

    @property
    def up(self) -> frozenset[tuple[str, str]]:
        """The edges that lead from a lower floor to a higher one."""
        return frozenset((a, b) for a, b in self.edges if _floor(a) < _floor(b))


def trace_reload() -> Trace:
    """Load an empty plugin, then trace its reload."""
    with tempfile.TemporaryDirectory() as folder, Runtime() as runtime:
        plugin = Path(folder) / "empty.py"
        plugin.write_text(_HEAD.format(version="1.0"))
        runtime.load(plugin)
        plugin.write_text(_HEAD.format(version="1.1"))
        files: set[str] = set()
        edges: set[tuple[str, str]] = set()

        def note(frame: FrameType, event: str, _: Any) -> None:
            if event != "call":
                return
            callee = _file_of(frame)
            if callee is None:
                return
            files.add(callee)
            caller = next((file for f in _outwards(frame) if (file := _file_of(f))), None)
            if caller is not None and caller != callee:
                edges.add((caller, callee))

        threading.setprofile(note)
        sys.setprofile(note)
        try:
            runtime.reload("empty")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        return Trace(frozenset(files), frozenset(edges))


def _outwards(frame: FrameType) -> Iterator[FrameType]:
    """The frames outside this one, innermost first, including those of the standard library."""
    outer = frame.f_back
    while outer is not None:
        yield outer
        outer = outer.f_back


def _file_of(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return path.relative_to(SOURCES).as_posix() if path.is_relative_to(SOURCES) else None


def _floor(file: str) -> int:
    floor = floor_of(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    assert floor is not None, file
    return floor


def main() -> None:
    """Print the path of a reload."""
    trace = trace_reload()
    for file in sorted(trace.files, key=lambda file: (-_floor(file), file)):
        print(f"{_floor(file):>3}  {file}")
    print(f"\n{len(trace.files)} files, {len(trace.edges)} edges, {len(trace.up)} of them up:")
    for caller, callee in sorted(trace.up):
        print(f"  {caller} -> {callee}")


if __name__ == "__main__":
    main()
