"""A thread that cannot be started costs the call that needs it, and nothing after it."""

import threading
from contextlib import contextmanager

import pytest

from epochal import Runtime
from epochal.errors import EpochalError, NoThreadError
from epochal.events import ShutdownFailed
from epochal.jobs import Jobs
from epochal.watch import Watcher

TOOL = "from tests.conftest import tool\n@tool\ndef f(): return 1\n"


@contextmanager
def no_thread(name):
    """No thread of this name can be started."""
    start, refused = threading.Thread.start, []

    def start_unless(thread):
        if name in thread.name:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_unless)
        yield
    assert refused


def helpers():
    """The threads that work for a host's objects, rather than for changes."""
    words = ("epochal-events", "epochal-timer", "epochal-heart", "epochal-positions", "watch")
    return [t for t in threading.enumerate() if t.name.startswith("epochal") and words_in(t, words)]


def words_in(thread, words):
    return any(word in thread.name for word in words)


@pytest.mark.parametrize("name", ["positions", "timer", "events", "heartbeat"])
def test_jobs_without_a_thread_leave_nothing_and_start_later(plugins, tmp_path, name):
    with Runtime(store=tmp_path / "store", drain_timeout=20) as rt:
        before = helpers()
        for _ in range(3):
            with no_thread(f"epochal-{name}"), pytest.raises(NoThreadError):
                Jobs(rt)
        for thread in set(helpers()) - set(before):
            thread.join(20)
            assert not thread.is_alive()
        with Jobs(rt) as jobs:
            assert jobs.status() == []


def test_a_subscription_without_a_thread_is_none(rt, plugins):
    with no_thread("epochal-events"), pytest.raises(NoThreadError):
        rt.events.subscribe(print)
    got, came = [], threading.Event()
    rt.events.subscribe(lambda event: (got.append(event), came.set()))
    rt.load(plugins.write("geo", TOOL))
    assert came.wait(20)
    assert not [event for event in got if isinstance(event, ShutdownFailed)]


def test_a_watcher_without_a_thread_is_none(rt, plugins):
    pytest.importorskip("watchfiles")
    with no_thread("epochal watch"), pytest.raises(NoThreadError):
        Watcher(rt, plugins.root)
    Watcher(rt, plugins.root).close()


SPAWNING = (
    """
import time
FAILED = []
def init(ctx):
    for _ in range(3):
        try:
            {begin}
        except RuntimeError as error:
            FAILED.append(str(error))
            {after}
"""
    + TOOL
)
BEGIN = {
    "geo work": "ctx.spawn(ctx.stopping.wait, name='geo work')",
    "geo#": "import asyncio; ctx.create_task(asyncio.sleep(60))",
}


@pytest.mark.parametrize("name", BEGIN)
def test_a_plugin_without_its_thread_ends_well_if_it_goes_on(rt, plugins, name):
    failed = []
    rt.events.subscribe(lambda e: failed.append(e) if isinstance(e, ShutdownFailed) else None)
    with no_thread(name):
        rt.load(plugins.write("geo", SPAWNING.format(begin=BEGIN[name], after="pass")))
    assert rt.reload("geo").drained
    assert rt.remove("geo").drained
    rt.close()
    assert not failed


@pytest.mark.parametrize("name", BEGIN)
def test_a_plugin_that_needs_its_thread_is_refused_and_may_come_again(rt, plugins, name):
    path = plugins.write("geo", SPAWNING.format(begin=BEGIN[name], after="raise"))
    with no_thread(name), pytest.raises(EpochalError, match="cannot be started"):
        rt.load(path)
    rt.load(path)
    assert rt.remove("geo").drained
