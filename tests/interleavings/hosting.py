"""A real `Runtime` that the threads of a program change, each in its own thread.

Outside of tests a change runs on its own thread, and the caller waits for it. A thread that starts
in the middle of a program cannot be stepped, so here the caller runs its change itself, where it
would wait. Everything else is real: queueing, publishing, draining and shutting down meet the other
thread's code. A subscriber's thread is one of the program's threads.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from epochal import Runtime, events
from epochal._core.change import plugin_calls
from epochal._core.change import queue as change_queue
from epochal._core.change.queue import QueuedChange
from epochal._core.generation import process_tables
from epochal._core.plugin.artifact import Artifact
from epochal._core.sync.watchdog import Watchdog
from tests.conftest import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ended: Final[list[str]] = []
"""The generations that were shut down in this run, in order; their `shutdown` writes it."""


def artifact(plugin: str, version: int, code: str = "", *, requires: str = "") -> Artifact:
    head = HEADER.format(id=plugin, version=f"{version}.0", requires=requires)
    body = f"""
from tests.interleavings.hosting import ended
me = {{"alive": True}}

@tool
def version():
    return {version}

@tool
def uses():
    seen = [me["alive"]]
    seen.append(me["alive"])
    return seen

def init(ctx):
    me.update(ctx=ctx, name=f"{{ctx.plugin}}#{{ctx.generation}}")

def shutdown():
    me["alive"] = False
    ended.append(me["name"])
"""
    return Artifact(plugin, {f"{plugin}.py": (head + body + code).encode()})


GEO, GEO_2, UNITS, UNITS_2 = (
    artifact(plugin, version) for plugin in ("geo", "units") for version in (1, 2)
)
_ASKS = """
@tool
def asks():
    return me["ctx"].require("geo").version()
"""
ROUTES = artifact("routes", 1, _ASKS, requires='"geo"')


@contextmanager
def changes_in_their_callers() -> Iterator[None]:
    """Let each caller run its change where it would wait for it."""
    deferred = threading.local()

    def run_later(work: Callable[[], Any], *, name: str) -> None:
        deferred.jobs = [*getattr(deferred, "jobs", ()), work]

    begin = QueuedChange.begin

    def begin_and_run(self: QueuedChange) -> None:
        begin(self)
        jobs, deferred.jobs = deferred.jobs, []
        for job in jobs:
            job()

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(change_queue, "start_thread", run_later))
        stack.enter_context(mock.patch.object(change_queue, "watchdog"))
        stack.enter_context(mock.patch.object(QueuedChange, "begin", begin_and_run))
        stack.enter_context(mock.patch.object(events, "threading", _NO_THREADS))
        stack.enter_context(mock.patch.object(events, "start_thread", _HeldThread))
        stack.enter_context(mock.patch.object(plugin_calls, "watchdog"))  # each run has its own
        # Comparing the process's tables takes half of a run's time, and no plugin here alters them.
        stack.enter_context(mock.patch.object(process_tables, "TABLES", ()))
        stack.enter_context(mock.patch.object(process_tables, "logger_tables", dict))
        yield


class _HeldThread:
    """A thread that never starts; the program calls its `run`."""

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self.run = work

    def join(self, timeout: float | None = None) -> None:
        pass


_NO_THREADS: Final = SimpleNamespace(
    Lock=lambda: threading.Lock(), current_thread=threading.current_thread
)


def serving(*artifacts: Artifact) -> Callable[[], SimpleNamespace]:
    """A setup: a runtime that serves these plugins, without time limits."""

    def setup() -> SimpleNamespace:
        ended.clear()
        dog = plugin_calls.watchdog = Watchdog()
        dog._thread = threading.main_thread()  # it starts none: there is no limit to watch
        rt = Runtime(drain_timeout=None, phase_timeout=None)
        with rt.change() as change:
            for artifact in artifacts:
                change.load(artifact)
        return SimpleNamespace(rt=rt, cutovers={}, seen=[], states=[], events=[], refused=False)

    return setup


def reloading(plugin: str, source: Artifact) -> Callable[[Any], None]:
    def reload(state: Any) -> None:
        state.cutovers[f"{plugin} {source.digest}"] = state.rt.reload(plugin, source)

    return reload


def removing(state: Any) -> None:
    state.cutovers["remove"] = state.rt.remove("geo")


def all_shut_down_once(state: Any) -> None:
    generations = {
        f"{swap.plugin}#{swap.old.generation}"
        for cut in state.cutovers.values()
        for swap in cut.swaps
        if swap.old is not None
    }
    assert sorted(ended) == sorted(generations), ended
    assert all(cut.drained for cut in state.cutovers.values()), state.cutovers
