"""The time from the last release to the waiting drain, and the processor time of the wait."""

from __future__ import annotations

import random
import threading
import time
from statistics import fmean
from typing import TYPE_CHECKING
from unittest import mock

from benchmarks.figure import Figure, percentile, sized
from epochal import EpochFencedReload, LifecycleState, PluginLifecycle
from epochal._core.use.drain_schedule import CollectionSchedule

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAKE_UPS = sized(2_000, 300)
_POLLED = sized(400, 60)
_WAIT_S = float(sized(10, 3))


def measure() -> Iterator[Figure]:
    """Yield wake-up times, and the processor time of one long wait."""
    waits = [_wake_up() * 1e6 for _ in range(_WAKE_UPS)]
    yield Figure("last release to drain awake, p50", percentile(waits, 0.5), "us", 60)
    yield Figure("last release to drain awake, p99", percentile(waits, 0.99), "us", 300)
    yield Figure("last release to drain awake, mean", fmean(waits), "us")
    yield from _polling(fmean(waits))
    burnt, collections = _long_wait()
    yield Figure(f"processor time of a {_WAIT_S:.0f} s drain wait", burnt * 1e3, "ms")
    yield Figure("the same without its collections", (burnt - collections) * 1e3, "ms", 1.0)


def _polling(ours_us: float) -> Iterator[Figure]:
    """Yield the wake-up times of a polling waiter, and its share of a processor."""
    for interval_ms in (10.0, 1.0, 0.1):
        late = [_polled_us(interval_ms / 1e3) for _ in range(_POLLED)]
        name = f"polling every {interval_ms:g} ms"
        yield Figure(f"{name}, wake-up p50", percentile(late, 0.5), "us")
        yield Figure(f"{name}, wake-up p99", percentile(late, 0.99), "us")
        if interval_ms == 10.0:
            goal = fmean(late) / ours_us
            yield Figure(f"{name} / ours, mean wake-up", goal, "x", 80.0, higher=True)
        yield Figure(f"{name}, share of a processor", _share_of_polling(interval_ms / 1e3), "%")


def _polled_us(interval: float) -> float:
    released_at: list[float] = []
    waiting, result = threading.Event(), []

    def wait() -> None:
        waiting.set()
        while not released_at:
            time.sleep(interval)
        result.append(time.perf_counter() - released_at[0])

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    # At random between two polls, as a release would be.
    time.sleep(interval * (1.0 + random.random()))
    released_at.append(time.perf_counter())
    thread.join()
    return result[0] * 1e6


def _share_of_polling(interval: float) -> float:
    started, burnt = time.perf_counter(), time.thread_time()
    while (elapsed := time.perf_counter() - started) < 1.0:
        time.sleep(interval)
    return (time.thread_time() - burnt) / elapsed * 100.0


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
    time.sleep(0.0005)  # so that the thread sleeps before the release, where the measurement begins
    leases.clear()
    thread.join()
    return result[0]


def _long_wait() -> tuple[float, float]:
    """Processor seconds of the waiting thread, and the share of them in the collector."""
    reload, leases = _draining()
    threading.Timer(_WAIT_S, leases.clear).start()
    spent = [0.0]
    collect = CollectionSchedule.collect

    def clocked(schedule: CollectionSchedule) -> None:
        began = time.thread_time()
        collect(schedule)
        spent[0] += time.thread_time() - began

    with mock.patch.object(CollectionSchedule, "collect", clocked):
        started = time.thread_time()
        reload.wait_for_drain(timeout=_WAIT_S + 5)
        burnt = time.thread_time() - started
    return burnt, spent[0]
