"""Streams: whatever is reloaded, at whatever moment, every event arrives and none twice."""

import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from epochal import examples
from epochal._core.events import FlowFailed
from epochal.errors import (
    EpochalError,
    ExportError,
    HandOverError,
    HostError,
    IncompatibleError,
    PhaseTimeoutError,
)
from epochal.jobs import Circuit, Patience, Streams

EVENTS = 1_000_000
RELOADS = 200
WORLD: dict = {}
QUICK = Patience(first_s=0.01, most_s=0.02, after=50)

SOURCE = """
from epochal.kinds import source
from tests.integration.test_streams import WORLD

@source
class numbers:
    def __init__(self):
        self.at = 0
    def start(self, position):
        {start}
        self.at = position or 0
    def read(self, limit):
        {read}
        first, self.at = self.at, min(self.at + limit, WORLD["last"])
        return [(n, n) for n in range(first + 1, self.at + 1)]
    def checkpoint(self):
        {checkpoint}
        return self.at
"""
SINK = """
from epochal.kinds import sink
from tests.integration.test_streams import WORLD

@sink
class keeper:
    def __init__(self):
        self.held = []
        self.at = 0
    def start(self, position):
        {start}
        self.at = WORLD["durable"][-1] if WORLD["durable"] else 0
    def write(self, events):
        {write}
        self.held += [event for position, event in events if position > self.at]
        self.at = max(self.at, events[-1][0])
    def checkpoint(self):
        {checkpoint}
        WORLD["durable"] += self.held
        self.held = []
        return self.at
"""


@pytest.fixture(autouse=True)
def _world():
    WORLD.clear()
    WORLD.update(last=0, durable=[], fail=0, gate=threading.Event(), entered=threading.Event())


def write_source(plugins, version="1.0", **at):
    blocks = {"start": "pass", "read": "pass", "checkpoint": "pass", **at}
    return plugins.write("numbers", SOURCE.format(**blocks), version=version)


def write_sink(plugins, version="1.0", **at):
    blocks = {"start": "pass", "write": "pass", "checkpoint": "pass", **at}
    return plugins.write("keeper", SINK.format(**blocks), version=version)


def connect(streams, **options):
    return streams.connect(
        "numbers.numbers", "keeper.keeper", **{"idle_s": 0.002, "checkpoint_s": 0.02, **options}
    )


def arrived(flow, last=None):
    assert flow.wait_idle(30)
    assert WORLD["durable"] == list(range(1, (last or WORLD["last"]) + 1))


def test_a_million_events_flow_through_two_hundred_reloads(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = EVENTS // 200
    with Streams(rt) as streams:
        flow = connect(streams)
        while_flowing = 0
        for number in range(RELOADS // 2):
            # Events come as fast as they can, and the last only after the last reload.
            WORLD["last"] = EVENTS if number == RELOADS // 2 - 1 else (number + 2) * EVENTS // 200
            before = flow.status().events
            rt.reload("numbers", write_source(plugins, f"1.{number}"))
            rt.reload("keeper", write_sink(plugins, f"1.{number}"))
            while_flowing += flow.status().events > before
        arrived(flow)
    assert while_flowing > RELOADS // 4
    assert flow.status().events == EVENTS


def test_both_ends_are_reloaded_in_one_change(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 2_000_000
    with Streams(rt) as streams:
        flow = connect(streams, batch=50)
        for number in range(20):
            with rt.change() as change:
                # The gate of the sink is closed first, when it is first here.
                both = [("keeper", write_sink), ("numbers", write_source)]
                for name, write in both if number % 2 else both[::-1]:
                    change.reload(name, write(plugins, f"1.{number}"))
        arrived(flow)


def test_the_batch_under_way_ends_before_the_position_moves(rt, plugins):
    hold = 'if events[0][0] == 1: WORLD["entered"].set(); WORLD["gate"].wait(10)'
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, write=hold))
    WORLD["last"] = 10
    with Streams(rt) as streams:
        flow = connect(streams)
        assert WORLD["entered"].wait(10)
        threading.Timer(0.1, WORLD["gate"].set).start()
        cut = rt.reload("keeper", write_sink(plugins, "2.0"))
        assert cut.swaps[0].pause_ms >= 50
        arrived(flow)


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
def test_a_step_that_fails_is_tried_again_and_nothing_is_lost(rt, plugins, end, step):
    told = []
    rt.events.subscribe(lambda event: told.append(event) if isinstance(event, FlowFailed) else None)
    at = {step: RAISES}
    rt.load(write_source(plugins, **(at if end == "source" else {})))
    rt.load(write_sink(plugins, **(at if end == "sink" else {})))
    WORLD.update(last=5_000, fail=3)
    with Streams(rt, patience=QUICK) as streams:
        flow = connect(streams, batch=100)
        arrived(flow)
        assert "no room" in flow.status().last_error
    rt.events.close()
    assert [event.failures for event in told[:3]] == [1, 2, 3]


@pytest.mark.parametrize("end", ["source", "sink"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [("raise OSError('x')", HandOverError), ("raise ValueError('x')", IncompatibleError)],
)
@pytest.mark.parametrize("side", ["old", "new"])
def test_a_hand_over_that_fails_changes_nothing_and_the_old_goes_on(
    rt, plugins, end, fault, error, side
):
    write, name = (write_source, "numbers") if end == "source" else (write_sink, "keeper")
    # Only while a reload runs: the stream's own checkpoints go well.
    guarded = f"if WORLD.get('reloading'): {fault}"
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 2_000
    with Streams(rt, patience=QUICK) as streams:
        flow = connect(streams, batch=100)
        arrived(flow)
        if side == "old":
            rt.reload(name, write(plugins, "1.1", checkpoint=guarded))
            arrived(flow)
        WORLD["reloading"] = True
        epoch = rt.epoch
        with pytest.raises(error):
            rt.reload(name, write(plugins, "2.0", **({"start": guarded} if side == "new" else {})))
        assert rt.epoch is epoch
        del epoch, WORLD["reloading"]
        WORLD["last"] = 4_000
        arrived(flow)


def test_a_hand_over_that_hangs_is_given_up_and_the_old_goes_on(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams:
        flow = connect(streams)
        arrived(flow)
        hang = "WORLD['gate'].wait(20)"
        with pytest.raises(PhaseTimeoutError), rt.change(pause_timeout=0.1) as change:
            change.reload("keeper", write_sink(plugins, "2.0", start=hang))
        WORLD["last"] = 200
        arrived(flow)
        WORLD["gate"].set()


def test_an_end_that_is_removed_is_waited_for(rt, plugins):
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


@pytest.mark.parametrize("end", ["source", "sink"])
def test_a_reload_closes_the_breaker_at_once(rt, plugins, end):
    write, step = (write_source, "read") if end == "source" else (write_sink, "write")
    name = {"source": "numbers", "sink": "keeper"}[end]
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    rt.load(plugins.write("bystander", ""))
    rt.reload(name, write(plugins, **{step: "raise OSError('broken')"}))
    WORLD["last"] = 100
    with Streams(rt, patience=Patience(first_s=0.01, after=2, rest_s=3600.0)) as streams:
        flow = connect(streams)
        while flow.status().circuit is not Circuit.OPEN:
            time.sleep(0.002)
        rt.reload("bystander")
        time.sleep(0.1)
        assert (flow.status().circuit, flow.status().failures_in_row) == (Circuit.OPEN, 2)
        rt.reload(name, write(plugins, "2.0"))
        arrived(flow)
        assert (flow.status().circuit, flow.status().failures_in_row) == (Circuit.CLOSED, 0)


def test_who_waits_for_a_flow_is_told_when_it_is_closed(rt, plugins):
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


def test_what_was_not_durable_is_delivered_again_after_a_restart(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, checkpoint="if WORLD['fail']: raise OSError('pulled the plug')"))
    WORLD["last"] = 100
    with Streams(rt, patience=QUICK) as streams:
        arrived(connect(streams))
        WORLD.update(last=200, fail=1)
    rt.remove("keeper")  # with what it held
    WORLD["fail"] = 0
    rt.load(write_sink(plugins, "2.0"))
    with Streams(rt) as streams:
        arrived(connect(streams))


@pytest.mark.parametrize("step", ["write", "checkpoint"])
def test_what_a_closed_flow_could_not_deliver_comes_to_who_connects_next(rt, plugins, step):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins, **{step: "if WORLD['fail']: raise OSError('full')"}))
    WORLD["last"] = 100
    with Streams(rt, patience=QUICK) as streams:
        arrived(connect(streams))
    WORLD.update(last=200, fail=1)
    with Streams(rt, patience=QUICK) as streams:
        flow = connect(streams)
        while not flow.status().failures_in_row:
            time.sleep(0.002)
    WORLD["fail"] = 0
    with Streams(rt, patience=QUICK) as streams:
        arrived(connect(streams))


def test_a_flow_holds_nothing_between_batches(rt, plugins):
    rt.load(write_source(plugins))
    rt.load(write_sink(plugins))
    WORLD["last"] = 100
    with Streams(rt) as streams:
        arrived(connect(streams))
        assert rt.reload("numbers", write_source(plugins, "2.0")).reclaimed
        assert rt.reload("keeper", write_sink(plugins, "2.0")).reclaimed


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("@source\nclass s: pass", "no method start"),
        ("@source\ndef s(): pass", "expected a class"),
        ("@source\nclass s:\n  def __init__(self, x): pass", "made without arguments"),
        ("@source\nclass s:\n  def read(self): pass", r"read\(limit\)"),
        ("@sink\nclass s:\n  async def write(self, events): pass", "plain method"),
    ],
)
def test_what_cannot_be_an_end_is_refused_when_it_is_loaded(rt, plugins, code, told):
    with pytest.raises(ExportError, match=told):
        rt.load(plugins.write("bad", f"from epochal.kinds import sink, source\n{code}\n"))


def test_an_end_is_connected_once(rt):
    with Streams(rt) as streams:
        streams.connect("a.b", "c.d")
        with pytest.raises(HostError, match="connected already"):
            streams.connect("a.b", "e.f")
        with pytest.raises(ValueError, match="at least 1"):
            streams.connect("x.y", "z.z", batch=0)
    with pytest.raises(HostError, match="are closed"):
        streams.connect("a.b", "c.d")


def test_of_many_who_connect_at_once_one_does(rt):
    with Streams(rt) as streams, ThreadPoolExecutor(8) as pool:
        start = threading.Barrier(8)

        def connect_one(number):
            start.wait(10)
            return streams.connect("a.b", f"sink.{number}")

        tried = [pool.submit(connect_one, number) for number in range(8)]
        assert sum(one.exception(10) is None for one in tried) == 1
        assert len(streams.status()) == 1


# --- the examples ------------------------------------------------------------------------------


def test_a_change_feed_of_sqlite_arrives_in_parquet_whole_and_once(rt, tmp_path):
    database = sqlite3.connect(tmp_path / "shop.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, price REAL)")
    feed = {"path": str(tmp_path / "shop.db"), "table": "orders"}
    rt.load(examples.path("feed"), config=feed)
    rt.load(examples.path("lake"), config={"folder": str(tmp_path / "lake")})
    with Streams(rt, patience=QUICK) as streams:
        flow = streams.connect("feed.changes", "lake.files", batch=200, idle_s=0.002)
        assert flow.wait_idle(30)
        for number in range(20):
            with database:
                database.executemany(
                    "INSERT INTO orders (item, price) VALUES (?, ?)",
                    [(f"tea {number}", index / 4) for index in range(200)],
                )
                database.execute("UPDATE orders SET price = 0 WHERE id % 100 = 7")
                database.execute("DELETE FROM orders WHERE id = ?", (number * 200 + 1,))
            rt.reload("feed")
            rt.reload("lake")
        assert flow.wait_idle(30)
    # Delivered again from the beginning, as after a lost position: the sink knows what it has.
    want = database.execute("SELECT position, op, row FROM orders_changes ORDER BY position")
    want = [(position, op, json.loads(row)) for position, op, row in want]
    database.close()
    found = ds.dataset(tmp_path / "lake", format="parquet").to_table().sort_by("position")
    assert found["position"].to_pylist() == [position for position, _, _ in want]
    assert [json.loads(event) for event in found["event"].to_pylist()] == [
        {"op": op, "row": row} for _, op, row in want
    ]
    assert pc.count_distinct(found["position"]).as_py() == len(want)


@pytest.fixture
def shop(tmp_path):
    database = sqlite3.connect(tmp_path / "shop.db")
    yield database
    database.close()


def told(rt):
    """What the feed tells, started again."""
    generation = next(iter(rt.epoch.generations.values()))
    (feed,) = [opened.instance.target for opened in generation.opened.values()]
    feed.start(feed.position)
    return [event["row"] for _, event in feed.read(1000)]


def test_the_feed_tells_every_value_that_a_row_can_have(rt, tmp_path, shop):
    names = [f"c{n}" for n in range(150)]
    shop.execute(f"CREATE TABLE orders (id INTEGER PRIMARY KEY, {', '.join(names)})")
    rt.load(examples.path("feed"), config={"path": str(tmp_path / "shop.db"), "table": "orders"})
    assert told(rt) == []
    values = {
        "id": 1,
        "c0": b"\x00\xff",
        "c1": None,
        "c2": 1.5,
        "c3": '"}',
        "c59": "{",
        "c149": "ä",
    }
    with shop:
        marks = ", ".join("?" * len(values))
        sql = f"INSERT INTO orders ({', '.join(values)}) VALUES ({marks})"
        shop.execute(sql, tuple(values.values()))
    (row,) = told(rt)
    assert row == dict.fromkeys(["id", *names]) | values | {"c0": "00FF"}


def test_the_feed_follows_the_columns_of_its_table(rt, tmp_path, shop):
    shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    rt.load(examples.path("feed"), config={"path": str(tmp_path / "shop.db"), "table": "orders"})
    assert told(rt) == []
    shop.execute("ALTER TABLE orders ADD COLUMN price REAL")
    shop.execute("ALTER TABLE orders RENAME COLUMN item TO goods")
    shop.commit()
    rt.reload("feed")
    assert told(rt) == []
    with shop:
        shop.execute("INSERT INTO orders VALUES (1, 'tea', 4.5)")
    assert told(rt) == [{"id": 1, "goods": "tea", "price": 4.5}]


def test_a_feed_whose_triggers_stand_needs_no_turn_at_writing(rt, tmp_path, shop):
    shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    rt.load(examples.path("feed"), config={"path": str(tmp_path / "shop.db"), "table": "orders"})
    assert told(rt) == []
    shop.execute("BEGIN IMMEDIATE")
    assert told(rt) == []
    shop.rollback()


def test_the_lake_drops_what_is_delivered_again_and_ignores_a_torn_file(rt, tmp_path):
    folder = tmp_path / "lake"
    rt.load(examples.path("lake"), config={"folder": str(folder)})
    lake = next(iter(rt.epoch.generations.values())).opened
    (files,) = [opened.instance.target for opened in lake.values()]
    files.start(None)
    files.write([(1, "a"), (2, "b")])
    files.write([(2, "b"), (3, "c")])
    assert files.checkpoint() == 3
    (folder / "00-99.part").write_bytes(b"PAR1, torn")
    files.start(3)
    assert not list(folder.glob("*.part"))
    with pytest.raises(ValueError, match="goes up to 3, and should up to 5"):
        files.start(5)


@pytest.mark.parametrize("name", ["feed", "lake"])
def test_an_example_says_what_it_is_configured_with(rt, name):
    with pytest.raises(EpochalError, match="needs config="):
        rt.load(examples.path(name))


def test_an_example_that_there_is_not():
    with pytest.raises(ValueError, match=r"there are: .*feed"):
        examples.path("nothing")
