"""Hooks beside pluggy's; pauses of services and streams; indexes opened, not built again."""

from __future__ import annotations

import threading
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import pluggy

from benchmarks.figure import Figure, compare_ns, from_repeats, percentile, ratios
from epochal import Runtime
from epochal._core.artifact import Artifact
from epochal.demo.data import load_flights
from epochal.examples import path
from epochal.kinds import service
from epochal.kinds.hook import Hook
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

event = Hook("bench.event")
_RELOADS = 300
_BUILDS = 3
_REOPENS = 30
_VECTOR_ROWS = 20_000  # of a graph of neighbours, building is what takes long
_TEXTS = (
    "SELECT row_number() OVER () AS id, "
    "concat_ws(' ', carrier, tailnum, origin, dest) AS words FROM flights"
)
_VECTORS = (
    "SELECT row_number() OVER () AS id, make_array(CAST(month AS DOUBLE), CAST(day AS DOUBLE), "
    "CAST(distance AS DOUBLE), CAST(air_time AS DOUBLE)) AS v "
    "FROM flights WHERE air_time IS NOT NULL LIMIT {rows}"
)
_PLUGIN = b"""
# /// plugin
# id = "bench"
# version = "1.0.0"
# ///
import threading
from benchmarks.kinds import event
from epochal.kinds import service

@event
def take_part(x):
    return x

@service
class counter:
    def __init__(self):
        self.state = bytearray(10_000_000)
        self.lock = threading.Lock()
        self.count = 0
    def hit(self):
        with self.lock:
            self.count += 1
            return self.count
    def export_state(self):
        return self.state, self.count
    def import_state(self, state, from_version):
        self.state, self.count = state
"""


def measure() -> Iterator[Figure]:
    """Hooks, then services."""
    artifact = Artifact("bench", {"bench.py": _PLUGIN})
    with Runtime() as rt:
        rt.load(artifact)
        names = {"event": event, "rt": rt, "hook": _pluggy().hook}
        ours, theirs = compare_ns("event.call(rt.epoch, 1)", "hook.take_part(x=1)", names)
        yield from_repeats(
            "a hook with one implementation / pluggy's", ratios(ours, theirs), "x", 0.5
        )
    with Runtime() as rt:
        rt.load(artifact)
        pauses, lost = _pauses_ms(rt, artifact)
    yield Figure("pause of a service with 10 MB of state, p50", percentile(pauses, 0.5), "ms")
    name = f"the same, p99 of {_RELOADS} reloads under calls"
    yield Figure(name, percentile(pauses, 0.99), "ms", 10.0)
    yield Figure("counts lost meanwhile", lost, "", 0)
    yield from _indexes()


def _indexes() -> Iterator[Figure]:
    """What a reload saves: every flight of the demonstration as text, its numbers as a vector."""
    yield from _index("fulltext", "text", _TEXTS)
    yield from _index("vectors", "near", _VECTORS.format(rows=_VECTOR_ROWS))


def _index(plugin: str, name: str, sql: str) -> Iterator[Figure]:
    columns = ["carrier", "tailnum", "origin", "dest", "month", "day", "distance", "air_time"]
    with Runtime() as rt, Database(rt) as db:
        db.register("flights", load_flights().select(columns))
        rt.load(path(plugin))
        builds = [_seconds(lambda: db.build_index(f"{plugin}.{name}", sql)) for _ in range(_BUILDS)]
        reloads = [_seconds(lambda: rt.reload(plugin)) for _ in range(_REOPENS)]
        pauses = [rt.reload(plugin).swaps[0].pause_ms or 0.0 for _ in range(_REOPENS)]
        (rows,) = db.query(f"SELECT count(*) FROM ({sql})").rows()[0]
    build, whole = median(builds), median(reloads)
    yield Figure(f"{plugin}: building the index of {rows:,} flights", build, "s")
    yield Figure(f"{plugin}: the whole reload, index opened", whole * 1000.0, "ms")
    yield Figure(f"{plugin}: of that opening it, the pause", median(pauses), "ms")
    # Less is better in all that these results hold: the reopening as a part of the building.
    yield Figure(f"{plugin}: reload / building again", whole / build, "x", 0.05)


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _pluggy() -> pluggy.PluginManager:
    class Spec:
        @pluggy.HookspecMarker("bench")
        def take_part(self, x: int) -> int: ...

    class Plugin:
        @pluggy.HookimplMarker("bench")
        def take_part(self, x: int) -> int:
            return x

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Spec)
    manager.register(Plugin())
    return manager


def _pauses_ms(rt: Runtime, artifact: Artifact) -> tuple[list[float], int]:
    """The pause of each reload while two threads call, and how many of their calls were lost."""
    stop = threading.Event()
    calls: list[int] = []

    def work() -> None:
        count = 0
        while not stop.wait(0.0002):
            rt.epoch[service]["bench.counter"].hit()
            count += 1
        calls.append(count)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    pauses = [rt.reload("bench", artifact).swaps[0].pause_ms or 0.0 for _ in range(_RELOADS)]
    stop.set()
    for thread in threads:
        thread.join()
    counted = rt.epoch[service]["bench.counter"].hit() - 1
    return pauses, abs(sum(calls) - counted)
