"""How soon a drain wakes after the last release, and what waiting for it burns."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from unittest import mock

from benchmarks.figure import Figure, percentile
from epochal import EpochFencedReload, LifecycleState, PluginLifecycle
from epochal._core.lease import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAKE_UPS = 2_000
_WAIT_S = 10.0


def measure() -> Iterator[Figure]:
    """Wake-up times, and the processor time of one long wait."""
    waits = [_wake_up() * 1e6 for _ in range(_WAKE_UPS)]
    yield Figure("last release to drain awake, p50", percentile(waits, 0.5), "us", 60)
    yield Figure("last release to drain awake, p99", percentile(waits, 0.99), "us", 300)
    burnt, collections = _long_wait()
    yield Figure("processor time of a 10 s drain wait", burnt * 1e3, "ms")
    yield Figure("the same without its collections", (burnt - collections) * 1e3, "ms", 1.0)


def _draining() -> tuple[EpochFencedReload, list[object]]:
    lifecycle = PluginLifecycle("geo")
    lifecycle.set(LifecycleState.ACTIVE)
    leases: list[object] = [lifecycle.lease()]
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    return reload, leases


def _wake_up() -> float:
    reload, leases = _draining()
    waiting = threading.Event()
    result: list[float] = []

    def wait() -> None:
        waiting.set()
        result.append(reload.wait_for_drain(timeout=10).wakeup or 0.0)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    time.sleep(0.0005)  # let it fall asleep; the figure is what happens after that
    leases.clear()
    thread.join()
    return result[0]


def _long_wait() -> tuple[float, float]:
    """Processor seconds of the waiting thread, and those of them that the collector took."""
    reload, leases = _draining()
    threading.Timer(_WAIT_S, leases.clear).start()
    spent = [0.0]
    collect = Patience.collect

    def clocked(patience: Patience) -> None:
        began = time.thread_time()
        collect(patience)
        spent[0] += time.thread_time() - began

    with mock.patch.object(Patience, "collect", clocked):
        started = time.thread_time()
        reload.wait_for_drain(timeout=_WAIT_S + 5)
        burnt = time.thread_time() - started
    return burnt, spent[0]
