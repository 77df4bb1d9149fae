"""A flow: when it is idle, which endpoint it waits for, what it holds, and how it ends."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from tests.integration.stream_parts import (
    QUICK,
    SLOW,
    WORLD,
    arrived,
    connect,
    new_world,
    write_sink,
    write_source,
)

from epochal.errors import HostError, PhaseTimeoutError
from epochal.jobs import RetryPolicy, Streams


@pytest.fixture(autouse=True)
def _world():
    new_world()


def test_a_flow_waits_for_a_removed_endpoint(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams:
        flow = connect(streams)
        arrived(flow)
        rt.remove("keeper")
        WORLD["last"] = 300
        while not flow.status().waiting:
            time.sleep(0.002)
        assert flow.status().waiting == "keeper.keeper not active"
        rt.load(write_sink(plugins, "2.0"))
        arrived(flow)


def test_wait_idle_returns_when_the_flow_is_closed(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, write="raise OSError('full')"))
    WORLD["last"] = 100
    with ThreadPoolExecutor() as pool:
        with Streams(rt) as streams:
            flow = connect(streams)
            waiting = pool.submit(flow.wait_idle)
            while not flow.status().failures_in_row:
                time.sleep(0.002)
        assert waiting.result(10) is False
        assert pool.submit(flow.wait_idle).result(10) is False


def test_a_sink_is_checkpointed_while_its_source_is_absent(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 10**12
    with Streams(rt) as streams:
        flow = connect(streams, checkpoint_s=3600.0, batch=1)
        while not flow.status().events:
            time.sleep(0.002)
        rt.remove("numbers")
        while len(WORLD["durable"]) < flow.status().events:
            time.sleep(0.002)
        assert flow.status().waiting == "numbers.numbers not active"
        assert flow.status().position == flow.status().events


def test_a_flow_without_its_source_is_closed_with_all_events_durable(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, checkpoint="if WORLD['fail']: raise OSError('full')"))
    WORLD["last"] = 10**12
    with Streams(rt, retry=QUICK) as streams:
        flow = connect(streams, checkpoint_s=3600.0, batch=1)
        while not flow.status().events:
            time.sleep(0.002)
        WORLD["fail"] = 1
        rt.remove("numbers")
        while not flow.status().failures_in_row:
            time.sleep(0.002)
        WORLD["fail"] = 0
    assert len(WORLD["durable"]) == flow.status().events


def test_close_waits_for_a_checkpoint_that_still_runs(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, checkpoint=SLOW))
    WORLD.update(last=10**12, callers=[])
    streams = Streams(rt)
    flow = connect(streams, checkpoint_s=3600.0, batch=1)
    while not flow.status().events:
        time.sleep(0.002)
    WORLD["hold"] = True
    with pytest.raises(PhaseTimeoutError), rt.change(pause_timeout=0.1) as change:
        change.reload("keeper", write_sink(plugins, "2.0"))
    with pytest.raises(HostError, match=r"did not end within 0\.1 s"):
        flow.close(0.1)
    WORLD["gate"].set()
    streams.close()
    assert len(WORLD["durable"]) == flow.status().events


def test_a_flow_ends_with_its_runtime(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams, ThreadPoolExecutor() as pool:
        flow = connect(streams)
        arrived(flow)
        rt.remove("numbers")
        waiting = pool.submit(flow.wait_idle)
        rt.close()
        assert waiting.result(30) is False
        assert "RuntimeClosedError" in flow.status().last_error
        assert streams.status() == []


def test_a_batch_holds_no_plugin_but_its_endpoints(rt, plugins):
    rt.load(write_source(plugins, read='WORLD["entered"].set(); WORLD["gate"].wait(60)'))
    rt.load(write_sink(plugins))
    rt.load(plugins.write("bystander", "@tool\ndef f(): pass\n"))
    with Streams(rt) as streams:
        connect(streams)
        assert WORLD["entered"].wait(30)
        assert rt.reload("bystander").drained
        WORLD["gate"].set()


FILTER = """
        first, self.at = self.at, min(self.at + limit, WORLD["last"])
        return [(n, n) for n in range(first + 1, self.at + 1) if n % 1000 == 0]
"""


def test_a_source_that_leaves_events_out_is_idle_at_its_end(rt, plugins):
    rt.load(write_source(plugins, read=FILTER))
    rt.load(write_sink(plugins))
    WORLD["last"] = 5_999
    with Streams(rt) as streams:
        flow = connect(streams, batch=100, idle_s=3600.0)
        assert flow.wait_idle(30)
        assert WORLD["durable"] == [1000, 2000, 3000, 4000, 5000]
        assert flow.status().position == 5_000


def test_acknowledge_gets_durable_positions_only(rt, plugins):
    """Events that the sink still holds may have to be read again."""
    path = write_source(plugins)
    note = "        WORLD['acknowledged'].append((position, len(WORLD['durable'])))\n"
    path.write_text(path.read_text() + f"    def acknowledge(self, position):\n{note}")
    rt.load(path)
    rt.load(write_sink(plugins))
    WORLD.update(last=1_000, acknowledged=[])
    with Streams(rt) as streams:
        arrived(connect(streams, batch=10, checkpoint_s=0.0))
    assert WORLD["acknowledged"][-1] == (1_000, 1_000)
    assert all(position <= durable for position, durable in WORLD["acknowledged"])


STALE = """
        last = WORLD["last"]
        if WORLD["holds"]:
            entered, gate = WORLD["holds"].pop()
            entered.set()
            gate.wait(60)
        first, self.at = self.at, min(self.at + limit, last)
        return [(n, n) for n in range(first + 1, self.at + 1)]
"""


def test_wait_idle_is_not_answered_by_an_earlier_look(rt, plugins):
    rt.load(write_source(plugins, read=STALE))
    rt.load(write_sink(plugins))
    WORLD["holds"] = []
    with Streams(rt) as streams, ThreadPoolExecutor() as pool:
        flow = connect(streams)
        assert flow.wait_idle(60)
        first, second = [(threading.Event(), threading.Event()) for _ in range(2)]
        WORLD["holds"] += [second, first]
        assert first[0].wait(30)
        WORLD["last"] = 100
        answer = pool.submit(flow.wait_idle, 60)
        while flow._asked < 2:
            time.sleep(0.002)
        first[1].set()
        assert second[0].wait(30)
        assert not wait([answer], 0.5).done
        second[1].set()
        assert answer.result(60)
        assert WORLD["durable"] == list(range(1, 101))


def test_wait_idle_does_not_wait_for_the_idle_interval(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams:
        flow = connect(streams, idle_s=3600.0)
        arrived(flow)
        WORLD["last"] = 200
        arrived(flow)


def test_wait_idle_does_not_shorten_the_wait_after_a_failure(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, write="raise OSError('full')"))
    WORLD["last"] = 100
    with Streams(rt, retry=RetryPolicy(first_s=3600.0, most_s=3600.0)) as streams:
        flow = connect(streams)
        while not flow.status().failures_in_row:
            time.sleep(0.002)
        assert not flow.wait_idle(0.1)
        assert flow.status().failures_in_row == 1
        error = flow.status().last_error
        assert error.startswith("sink keeper.keeper, write: OSError: full (")
        assert error.endswith("keeper.py, line 22)")


def test_a_reload_of_an_endpoint_needs_no_collection(rt, plugins):
    """A hand-over leaves no reference cycle: a full collection would stop every thread."""
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    full = []

    def note(phase, info):
        if phase == "start" and info["generation"] == 2:
            full.append(info)

    with Streams(rt) as streams:
        arrived(connect(streams))
        gc.collect()
        gc.callbacks.append(note)
        try:
            assert rt.reload("numbers", write_source(plugins, "2.0")).reclaimed
            assert rt.reload("keeper", write_sink(plugins, "2.0")).reclaimed
        finally:
            gc.callbacks.remove(note)
    assert not full


def test_a_flow_holds_nothing_between_batches(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams:
        arrived(connect(streams))
        assert rt.reload("numbers", write_source(plugins, "2.0")).reclaimed
        assert rt.reload("keeper", write_sink(plugins, "2.0")).reclaimed


def test_an_endpoint_is_connected_once_on_a_runtime(rt):
    with Streams(rt) as streams, Streams(rt) as others:
        flow = streams.connect("a.b", "c.d")
        for connect_to in (streams.connect, others.connect):
            for names in (("a.b", "e.f"), ("e.f", "c.d")):
                with pytest.raises(HostError, match=r"a.b -> c.d is connected already"):
                    connect_to(*names)
        others.connect("e.f", "g.h")  # a refused connect leaves no claim
        flow.close()
        others.connect("a.b", "c.d")
        with pytest.raises(ValueError, match="at least 1"):
            streams.connect("x.y", "z.z", batch=0)
    with pytest.raises(HostError, match="are closed"):
        streams.connect("a.b", "c.d")


def test_of_many_concurrent_connects_one_succeeds(rt):
    with Streams(rt) as streams, ThreadPoolExecutor(8) as pool:
        start = threading.Barrier(8)

        def connect_one(number):
            start.wait(10)
            return streams.connect("a.b", f"sink.{number}")

        tried = [pool.submit(connect_one, number) for number in range(8)]
        assert sum(attempt.exception(10) is None for attempt in tried) == 1
        assert len(streams.status()) == 1
