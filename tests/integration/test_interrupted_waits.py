"""No wait of a caller runs through a lock that Ctrl-C could leave taken.

`threading.Condition` and `concurrent.futures.Future` are written in Python: what a signal handler
raises within their methods may leave their lock taken, and the thread that is to wake the waiting
one waits for ever; or it reaches the caller as a RuntimeError.
"""

import sys
import threading
from concurrent.futures import Future

import pytest
from tests.integration.stream_parts import (
    WORLD,
    arrived,
    connect,
    new_world,
    write_sink,
    write_source,
)

from epochal import Runtime
from epochal.jobs import Jobs, Streams
from epochal.sql import Database

LOCKED = {
    function.__code__: f"{cls.__name__}.{name}"
    for cls in (threading.Condition, Future)
    for name, function in vars(cls).items()
    if hasattr(function, "__code__")
}


class Watch:
    """Notes the calls, by this thread, of methods that hold such a lock."""

    def __init__(self):
        self.seen = []

    def __enter__(self):
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _note(self, frame, event, _):
        if event == "call" and frame.f_code in LOCKED:
            caller = frame.f_back
            while caller is not None and caller.f_code in LOCKED:
                caller = caller.f_back
            self.seen.append((LOCKED[frame.f_code], caller and caller.f_code.co_qualname))


@pytest.fixture
def watch():
    return Watch()


def test_the_watch_sees_a_wait(watch):
    with watch:
        Future().cancel()
    assert "Future.cancel" in dict(watch.seen)


@pytest.mark.parametrize("timeout", [None, 20.0], ids=["without a limit", "with a limit"])
def test_a_query(watch, timeout):
    sql = "SELECT count(*) FROM generate_series(1, 100000) AS a(x)"
    with Runtime() as rt, Database(rt) as db:
        db.query(sql, timeout=timeout).rows()  # its threads have begun
        with watch:
            rows = db.query(sql, timeout=timeout).rows()
        assert rows == [(100000,)]
    assert watch.seen == []


def test_a_stream_that_is_waited_for_and_closed(rt, plugins, watch):
    new_world()
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams:
        flow = connect(streams)
        arrived(flow)
        with watch:
            assert flow.wait_idle(20)
            flow.reset_failures()
    assert watch.seen == []


def test_jobs_that_run_and_are_closed(rt, plugins, watch):
    code = "from epochal.kinds import job\n@job(every=3600)\ndef tick(): pass\n"
    rt.load(plugins.write("p", code))
    jobs = Jobs(rt)
    with watch:
        jobs.run_now("p.tick")
        jobs.status()
        is_closed = jobs.close(20)
    assert is_closed
    assert watch.seen == []
