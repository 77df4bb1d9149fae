"""A real `Runtime` that the threads of a program change, each in its own thread.

A change runs on a thread of its own, which its caller waits for. A thread that is started in the
middle of a program cannot be stepped, so here the caller runs its change itself, at the point where
it would wait for it; from then on nothing is simulated: turns, publishing, draining and shutting
down meet the other thread as they do in life. A subscriber's thread is one of the program's.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from epochal import Runtime, events
from epochal._core.change import plugin_calls as phase
from epochal._core.change import queue as changes
from epochal._core.change.queue import RunningChange
from epochal._core.generation import process_tables
from epochal._core.plugin.artifact import Artifact
from epochal._core.sync.watchdog import Watchdog
from tests.conftest import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ended: Final[list[str]] = []
"""The generations that were shut down in this run, in order; the plugins add themselves."""


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
    """A caller runs its change where it would wait for it."""
    late = threading.local()

    def run_later(work: Callable[[], Any], name: str) -> None:
        late.work = [*getattr(late, "work", ()), work]

    wait = RunningChange.wait

    def run_and_wait(self: RunningChange) -> Any:
        work, late.work = late.work, []
        for one in work:
            one()
        return wait(self)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(changes, "_start_thread", run_later))
        stack.enter_context(mock.patch.object(RunningChange, "wait", run_and_wait))
        stack.enter_context(mock.patch.object(events, "threading", _NO_THREADS))
        stack.enter_context(mock.patch.object(phase, "watchdog"))  # each run has its own
        # Half the time of a run, to see what no plugin here leaves in the process.
        stack.enter_context(mock.patch.object(process_tables, "TABLES", ()))
        stack.enter_context(mock.patch.object(process_tables, "logger_tables", dict))
        yield


class _HeldThread:
    """A thread that the program runs as one of its own."""

    def __init__(self, target: Callable[[], None], name: str, *, daemon: bool) -> None:
        self.run = target

    def start(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        pass


_NO_THREADS: Final = SimpleNamespace(
    Thread=_HeldThread, Lock=lambda: threading.Lock(), current_thread=threading.current_thread
)


def serving(*artifacts: Artifact) -> Callable[[], SimpleNamespace]:
    """A runtime that has these plugins; its limits are off."""

    def setup() -> SimpleNamespace:
        ended.clear()
        dog = phase.watchdog = Watchdog()  # a lock of this run's own
        dog._pid = os.getpid()  # and no thread: there is no limit to watch
        rt = Runtime(drain_timeout=None, phase_timeout=None)
        with rt.change() as change:
            for one in artifacts:
                change.load(one)
        return SimpleNamespace(rt=rt, cut={}, seen=[], states=[], heard=[], refused=False)

    return setup


def reloading(plugin: str, source: Artifact) -> Callable[[Any], None]:
    def reload(at: Any) -> None:
        at.cut[f"{plugin} {source.digest}"] = at.rt.reload(plugin, source)

    return reload


def removing(at: Any) -> None:
    at.cut["remove"] = at.rt.remove("geo")


def all_shut_down_once(at: Any) -> None:
    generations = {
        f"{swap.plugin}#{swap.old.generation}"
        for cut in at.cut.values()
        for swap in cut.swaps
        if swap.old is not None
    }
    assert sorted(ended) == sorted(generations), ended
    assert all(cut.drained for cut in at.cut.values()), at.cut
