"""What hooks cost beside pluggy's, and for how long a service's calls wait while it is reloaded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pluggy

from benchmarks.figure import Figure, compare_ns, from_repeats, percentile, ratios
from epochal import Runtime
from epochal._core.artifact import Artifact
from epochal.kinds import service
from epochal.kinds.hook import Hook

if TYPE_CHECKING:
    from collections.abc import Iterator

event = Hook("bench.event")
_RELOADS = 300
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
