"""Lifecycles to test with."""

import threading

import pytest

from epochal import EpochFencedReload, LifecycleState, PluginLifecycle


def active(name: str = "geo") -> PluginLifecycle:
    lifecycle = PluginLifecycle(name)
    lifecycle.set(LifecycleState.ACTIVE)
    return lifecycle


def draining() -> tuple[PluginLifecycle, EpochFencedReload]:
    lifecycle = active()
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    return lifecycle, reload


def at_once(count: int, work) -> list:
    """Call `work` from `count` threads that start together; return each result or exception."""
    barrier, results = threading.Barrier(count), []

    def run() -> None:
        barrier.wait(10)
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001  the outcome under test
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == count
    return results


def wait_until_a_waiter_registers(lifecycle: PluginLifecycle) -> None:
    """Bounded: the waiter registers within a few switches of the interpreter."""
    for _ in range(1_000_000):
        if lifecycle.ledger._waiters:
            return
    pytest.fail("no waiter registers")
