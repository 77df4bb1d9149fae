"""The cost of the store: a restart with a hundred plugins, and a reload's commit."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, percentile, sized
from benchmarks.plugin import source
from epochal import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLUGINS = 100
_RESTARTS = sized(7, 2)
_RELOADS = sized(200, 30)


def measure() -> Iterator[Figure]:
    """Yield restarts from the store alone, without the plugins' files, and commits."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder)
        yield from_repeats(
            "restart to ready, 100 plugins of 300 lines", _restarts(folder), "s", 2.0
        )
        journal, sizes = _reloads(folder)
        yield from_repeats("commit of a reload to the store, p50", journal, "ms")
        yield Figure("the same, p99", percentile(journal, 0.99), "ms")
        yield Figure("the store after 100 more epochs than it keeps", sizes, "MiB")


def _fill(folder: Path) -> None:
    with Runtime(store=folder / "store") as rt, rt.change() as change:
        for number in range(_PLUGINS):
            path = folder / f"plugin{number}.py"
            path.write_text(source(300).replace('"geo"', f'"plugin{number}"'))
            change.load(path)
    for path in folder.glob("*.py"):
        path.unlink()


def _restarts(folder: Path) -> list[float]:
    taken: list[float] = []
    for _ in range(_RESTARTS):
        started = time.perf_counter()
        rt = Runtime(store=folder / "store")
        taken.append(time.perf_counter() - started)
        assert len(rt.epoch.generations) == _PLUGINS
        rt.close()
    return taken


def _reloads(folder: Path) -> tuple[list[float], float]:
    """Milliseconds of each commit of a new version, and the store's size afterwards in MiB."""
    path, taken = folder / "plugin0.py", []
    text = source(300).replace('"geo"', '"plugin0"')
    with Runtime(store=folder / "store") as rt:
        for number in range(_RELOADS):
            path.write_text(f"{text}\n# {number}\n")
            taken.append(rt.reload("plugin0", path).phases_ms["journal"])
    size = sum(each.stat().st_size for each in (folder / "store").rglob("*"))
    return taken, size / 1024 / 1024
