"""Streams: through any reload at any moment, every event arrives, and none twice."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

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
from tests.sizes import sized

from epochal.errors import (
    ExportError,
    HandOverError,
    IncompatibleError,
    PhaseTimeoutError,
)
from epochal.jobs import Circuit, FlowFailed, RetryPolicy, Streams
from epochal.kinds import service, sink
from epochal.kinds.toolkit.gated_state import state_ref_of

EVENTS = sized(100_000, 1_000_000)
RELOADS = sized(30, 200)


@pytest.fixture(autouse=True)
def _world():
    new_world()


@pytest.mark.timeout(300)  # a few seconds on an idle machine
def test_events_flow_through_many_reloads(rt, plugins):
    """Each start of the source adds events, so every reload has some before it."""
    more = f'WORLD["last"] = min({EVENTS}, WORLD["last"] + {EVENTS // (RELOADS + 1) + 1})'
    rt.load(write_source(plugins, start=more))
    rt.load(write_sink(plugins))
    with Streams(rt) as streams:
        flow = connect(streams)
        for number in range(RELOADS):
            before = flow.status().events
            if number % 2:
                rt.reload("numbers", write_source(plugins, f"1.{number}", start=more))
            else:
                # The source starts again, at the new sink's checkpoint.
                rt.reload("keeper", write_sink(plugins, f"1.{number}"))
            assert WORLD["last"] < EVENTS or number == RELOADS - 1
            while flow.status().events == before:
                time.sleep(0.001)
        arrived(flow, EVENTS)
    assert flow.status().events == EVENTS
    assert flow.status().failures_in_row == 0


def test_both_endpoints_are_reloaded_in_one_change(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    with Streams(rt) as streams:
        flow = connect(streams, batch=50)
        for number in range(20):
            WORLD["last"] += 10_000
            with rt.change() as change:
                change.reload("keeper", write_sink(plugins, f"1.{number}"))
                change.reload("numbers", write_source(plugins, f"1.{number}"))
        arrived(flow)


HOLDER = """
from epochal.kinds import service
from tests.integration.stream_parts import WORLD

@service
class holder:
    def hold(self):
        WORLD["entered"].set()
        WORLD["gate"].wait(60)
    def export_state(self): pass
    def import_state(self, state, from_version): pass
"""


def test_both_endpoints_and_a_service_between_them_move_in_one_change(rt, plugins):
    """While the change waits for a call of the service, no batch is stuck between two gates."""
    rt.load(write_source(plugins))
    rt.load(plugins.write("holder", HOLDER, requires=["numbers"]))
    rt.load(write_sink(plugins, requires=["holder"]))
    keeper = state_ref_of(rt.epoch[sink]["keeper.keeper"]).state.gate
    WORLD["last"] = 10**12
    with Streams(rt) as streams, ThreadPoolExecutor() as pool:
        flow = connect(streams, batch=50)
        pool.submit(lambda: rt.epoch[service]["holder.holder"].hold())
        assert WORLD["entered"].wait(30)

        changing = pool.submit(rt.reload, "numbers")  # and with it the other two
        while not keeper._closing:
            time.sleep(0.002)
        before = -1
        while before != flow.status().events:
            before = flow.status().events
            time.sleep(0.05)
        WORLD["gate"].set()
        assert len(changing.result(30).swaps) == 3
        WORLD["last"] = 0
        assert flow.wait_idle(60)
        arrived(flow, flow.status().events)


def test_the_batch_in_progress_ends_before_the_position_moves(rt, plugins):
    hold = 'if events[0][0] == 1: WORLD["entered"].set(); WORLD["gate"].wait(30)'
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, write=hold + '; WORLD["order"].append("written")'))
    WORLD.update(last=10, order=[])
    gate = state_ref_of(rt.epoch[sink]["keeper.keeper"]).state.gate
    with Streams(rt) as streams, ThreadPoolExecutor() as pool:
        flow = connect(streams)
        assert WORLD["entered"].wait(30)
        new = write_sink(plugins, "2.0", start='WORLD["order"].append("moved")')
        reload = pool.submit(rt.reload, "keeper", new)
        while not gate._closing:
            time.sleep(0.002)
        WORLD["gate"].set()
        reload.result(30)
        assert WORLD["order"] == ["written", "moved"]
        arrived(flow)


def failures_of(rt):
    """The `FlowFailed` events from now on, as a list that grows."""
    failures = []
    rt.events.subscribe(lambda e: failures.append(e) if isinstance(e, FlowFailed) else None)
    return failures


RAISES = "if WORLD['fail'] > 0: WORLD['fail'] -= 1; raise OSError('no room')"


@pytest.mark.parametrize(
    ("end", "step"),
    [
        ("source", "start"),
        ("source", "read"),
        ("sink", "start"),
        ("sink", "write"),
        ("sink", "checkpoint"),
    ],
)
def test_a_failed_step_is_retried_without_loss(rt, plugins, end, step):
    failures = failures_of(rt)
    at = {step: RAISES}
    rt.load(write_source(plugins, **(at if end == "source" else {})))
    rt.load(write_sink(plugins, **(at if end == "sink" else {})))
    WORLD.update(last=5_000, fail=3)
    with Streams(rt, retry=QUICK) as streams:
        flow = connect(streams, batch=100)
        arrived(flow)
        assert "no room" in flow.status().last_error
    rt.events.close()
    assert [event.failures for event in failures[:3]] == [1, 2, 3]


@pytest.mark.parametrize("end", ["source", "sink"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [("raise OSError('x')", HandOverError), ("raise ValueError('x')", IncompatibleError)],
)
def test_a_version_that_cannot_start_is_refused_and_the_old_goes_on(rt, plugins, end, fault, error):
    write, name = (write_source, "numbers") if end == "source" else (write_sink, "keeper")
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 2_000
    with Streams(rt, retry=QUICK) as streams:
        flow = connect(streams, batch=100)
        arrived(flow)
        epoch = rt.epoch
        with pytest.raises(error):
            rt.reload(name, write(plugins, "2.0", start=fault))
        assert rt.epoch is epoch
        del epoch
        WORLD["last"] = 4_000
        arrived(flow)
        assert flow.status().failures_in_row == 0


@pytest.mark.parametrize("end", ["source", "sink"])
def test_a_reload_fixes_a_bug_in_checkpoint_without_loss(rt, plugins, end):
    write, name = (write_source, "numbers") if end == "source" else (write_sink, "keeper")
    failures = failures_of(rt)
    bug = {"checkpoint": "if WORLD['fail']: raise ValueError('a bug')"}
    rt.load(write_source(plugins, **(bug if end == "source" else {})))
    rt.load(write_sink(plugins, **(bug if end == "sink" else {})))
    WORLD["last"] = 100
    with Streams(rt, retry=QUICK) as streams:
        flow = connect(streams)
        arrived(flow)
        WORLD.update(last=200, fail=1)
        while not flow.status().failures_in_row:
            time.sleep(0.002)
        rt.reload(name, write(plugins, "2.0"))
        arrived(flow)
        WORLD["last"] = 300
        arrived(flow)
    rt.events.close()
    line = f"{end} {name}.{name}, checkpoint, as it was replaced: ValueError: a bug ("
    assert [event.wait_s for event in failures if event.error.startswith(line)] == [0.0]


def test_a_source_that_failed_to_restart_hands_over_no_position(rt, plugins):
    fails = "self.at = 'nowhere'; WORLD['fail'] and 1 / 0"
    rt.load(write_source(plugins, start=fails))
    rt.load(write_sink(plugins, write="if WORLD['fail']: raise OSError('full')"))
    WORLD["last"] = 100
    with Streams(rt, retry=QUICK) as streams:
        flow = connect(streams)
        arrived(flow)
        WORLD.update(last=200, fail=1)
        while "start: ZeroDivisionError" not in flow.status().last_error:
            time.sleep(0.002)
        rt.reload("numbers", write_source(plugins, "2.0", start="(position or 0) + 1"))
        WORLD["fail"] = 0
        arrived(flow)


def test_a_hand_over_that_hangs_is_given_up_and_the_old_object_goes_on(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams:
        flow = connect(streams)
        arrived(flow)
        hang = "WORLD['gate'].wait(60)"
        with pytest.raises(PhaseTimeoutError), rt.change(pause_timeout=0.1) as change:
            change.reload("keeper", write_sink(plugins, "2.0", start=hang))
        WORLD["last"] = 200
        arrived(flow)
        WORLD["gate"].set()


def test_no_batch_enters_while_an_abandoned_checkpoint_runs(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, checkpoint=SLOW))
    WORLD.update(last=100, callers=[])
    with Streams(rt) as streams:
        flow = connect(streams)
        arrived(flow)
        before = set(threading.enumerate())
        WORLD["callers"].clear()
        WORLD["hold"] = True
        for number in range(2):  # the second waits for the first's call, and makes none
            with pytest.raises(PhaseTimeoutError), rt.change(pause_timeout=0.1) as change:
                change.reload("keeper", write_sink(plugins, f"2.{number}", checkpoint=SLOW))
        WORLD["last"] = 200
        while not flow.status().waiting:
            time.sleep(0.002)
        assert "keeper.keeper busy: in checkpoint" in flow.status().waiting
        assert not flow.wait_idle(0.2)
        assert (len(WORLD["durable"]), len(WORLD["callers"])) == (100, 1)
        WORLD["gate"].set()
        arrived(flow)
        for thread in set(threading.enumerate()) - before:
            thread.join(30)  # the abandoned hand-overs end
        assert sum(caller is not flow._thread for caller in WORLD["callers"]) == 1
        rt.reload("keeper", write_sink(plugins, "3.0"))
        WORLD["last"] = 300
        arrived(flow)


@pytest.mark.parametrize("end", ["source", "sink"])
def test_a_reload_closes_the_breaker_at_once(rt, plugins, end):
    write, step = (write_source, "read") if end == "source" else (write_sink, "write")
    name = {"source": "numbers", "sink": "keeper"}[end]
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    rt.load(plugins.write("bystander", ""))
    rt.reload(name, write(plugins, **{step: "raise OSError('broken')"}))
    WORLD["last"] = 100
    rest_s = {"source": 3600.0, "sink": float("inf")}[end]
    with Streams(rt, retry=RetryPolicy(first_s=0.01, after=2, rest_s=rest_s)) as streams:
        flow = connect(streams)
        while flow.status().circuit is not Circuit.OPEN:
            time.sleep(0.002)
        rt.reload("bystander")
        time.sleep(0.1)
        assert (flow.status().circuit, flow.status().failures_in_row) == (Circuit.OPEN, 2)
        rt.reload(name, write(plugins, "2.0"))
        arrived(flow)
        assert (flow.status().circuit, flow.status().failures_in_row) == (Circuit.CLOSED, 0)


def test_events_that_were_not_durable_are_repeated_to_the_next_sink(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, checkpoint="if WORLD['fail']: raise OSError('pulled the plug')"))
    WORLD["last"] = 100
    with Streams(rt, retry=QUICK) as streams:
        arrived(connect(streams))
        WORLD.update(last=200, fail=1)
    rt.remove("keeper")  # with the events that it held
    WORLD["fail"] = 0
    rt.load(write_sink(plugins, "2.0"))
    with Streams(rt) as streams:
        arrived(connect(streams))


@pytest.mark.parametrize("step", ["write", "checkpoint"])
def test_events_that_a_closed_flow_did_not_deliver_go_to_the_next_flow(rt, plugins, step):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, **{step: "if WORLD['fail']: raise OSError('full')"}))
    WORLD["last"] = 100
    with Streams(rt, retry=QUICK) as streams:
        arrived(connect(streams))
    WORLD.update(last=200, fail=1)
    with Streams(rt, retry=QUICK) as streams:
        flow = connect(streams)
        while not flow.status().failures_in_row:
            time.sleep(0.002)
    WORLD["fail"] = 0
    with Streams(rt, retry=QUICK) as streams:
        arrived(connect(streams))


def test_a_sink_that_another_flow_used_is_asked_for_its_checkpoint(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    other = write_sink(plugins).read_text().replace('WORLD["durable"]', 'WORLD["other"]')
    rt.load(plugins.write("other", other.partition("\n\n")[2]))
    WORLD["other"] = []
    for last, name in ((100, "keeper"), (200, "other"), (300, "keeper")):
        WORLD["last"] = last
        with Streams(rt) as streams:
            assert streams.connect("numbers.numbers", f"{name}.keeper").wait_idle(30)
    assert WORLD["durable"] == list(range(1, 301))
    assert WORLD["other"] == list(range(1, 201))


GROUPS = """
        n = len(self.held) // 10 * 10
        WORLD["durable"] += self.held[:n]
        self.held = self.held[n:]
        return WORLD["durable"][-1] if WORLD["durable"] else None
"""


def test_events_beyond_the_sinks_checkpoint_are_repeated_after_its_reload(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, checkpoint=GROUPS))
    WORLD["last"] = 25
    with Streams(rt) as streams:
        flow = connect(streams)
        assert flow.wait_idle(30)
        assert flow.status().position == 20
        rt.reload("keeper", write_sink(plugins, "2.0", checkpoint=GROUPS))
        WORLD["last"] = 100
        arrived(flow)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@source\nclass s: pass", "no method start"),
        ("@source\ndef s(): pass", "expected a class"),
        ("@source\nclass s:\n  def __init__(self, x): pass", "made without arguments"),
        ("@source\nclass s:\n  def read(self): pass", r"read\(limit\)"),
        ("@sink\nclass s:\n  async def write(self, events): pass", "plain method"),
        ("@source\nclass s:\n  def acknowledge(self): pass", r"acknowledge\(position\)"),
    ],
)
def test_an_invalid_endpoint_is_refused_at_load(rt, plugins, code, message):
    with pytest.raises(ExportError, match=message):
        rt.load(plugins.write("bad", f"from epochal.kinds import sink, source\n{code}\n"))
