"""The stream examples together: a change feed of SQLite arrives in Parquet, whole and once."""

import json
import sqlite3

import pyarrow.dataset as ds
import pytest
from tests.integration.stream_parts import QUICK

from epochal import examples
from epochal.errors import EpochalError, IncompatibleError
from epochal.jobs import Streams


@pytest.fixture
def shop(tmp_path):
    database = sqlite3.connect(tmp_path / "shop.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, price REAL)")
    yield database
    database.close()


@pytest.fixture
def streams(rt, tmp_path):
    rt.load(examples.path("feed"), config=feed(tmp_path))
    rt.load(examples.path("lake"), config={"folder": str(tmp_path / "lake")})
    with Streams(rt, retry=QUICK) as streams:
        yield streams


def feed(folder, **more):
    return {"path": str(folder / "shop.db"), "table": "orders", **more}


def connect(streams):
    return streams.connect("feed.changes", "lake.files", batch=200, idle_s=0.002)


def in_lake(tmp_path):
    """The positions and events, in their order."""
    files = sorted((tmp_path / "lake").glob("*.parquet"))
    table = ds.dataset(files, format="parquet").to_table()
    return [
        (json.loads(position), json.loads(event))
        for position, event in zip(*table.to_pydict().values(), strict=True)
    ]


def test_a_change_feed_of_sqlite_arrives_in_parquet_whole_and_once(rt, tmp_path, shop, streams):
    flow = connect(streams)
    assert flow.wait_idle(60)
    rows = {}
    want = []
    for number in range(20):
        items = {number * 200 + n + 1: (f"tea {number}", n / 7) for n in range(200)}
        with shop:
            values = [(key, *row) for key, row in items.items()]
            shop.executemany("INSERT INTO orders VALUES (?, ?, ?)", values)
            shop.execute("UPDATE orders SET price = 0.1 + 0.2 WHERE id % 100 = 7")
            shop.execute("DELETE FROM orders WHERE id = ?", (number * 200 + 1,))
        rows |= items
        want += [("insert", key) for key in items]
        want += [("update", key) for key in sorted(rows) if key % 100 == 7]
        want += [("delete", number * 200 + 1)]
        rows |= {key: (item, 0.1 + 0.2) for key, (item, _) in rows.items() if key % 100 == 7}
        del rows[number * 200 + 1]
        rt.reload("feed")
        rt.reload("lake")
    assert flow.wait_idle(60)
    stored = in_lake(tmp_path)
    assert [(e["op"], (e.get("new") or e["old"])["id"]) for _, e in stored] == want
    assert [number for (_, number), _ in stored] == list(range(1, len(want) + 1))
    left = {}
    for _, event in stored:
        left.pop(event.get("old", {}).get("id"), None)
        if new := event.get("new"):
            left[new["id"]] = (new["item"], new["price"])
    assert left == rows


def test_another_table_is_refused_by_the_sink_of_the_first(rt, tmp_path, shop, streams):
    shop.execute("CREATE TABLE others (id INTEGER PRIMARY KEY)")
    flow = connect(streams)
    assert flow.wait_idle(60)
    with shop:
        shop.execute("INSERT INTO orders (item) VALUES ('tea')")
    assert flow.wait_idle(60)
    with pytest.raises(IncompatibleError, match="of another log"):
        rt.reload("feed", config=feed(tmp_path) | {"table": "others"})
    assert not shop.execute("SELECT name FROM sqlite_master WHERE name LIKE 'others_%'").fetchall()
    with shop:
        shop.execute("INSERT INTO orders (item) VALUES ('milk')")
    assert flow.wait_idle(60)
    assert [event["new"]["item"] for _, event in in_lake(tmp_path)] == ["tea", "milk"]


def test_a_gap_after_a_rebuilt_table_is_an_error_until_it_is_accepted(rt, tmp_path, shop, streams):
    """The rebuild is SQLite's own procedure: https://sqlite.org/lang_altertable.html#otheralter."""
    flow = connect(streams)
    assert flow.wait_idle(60)
    with shop:
        shop.execute("INSERT INTO orders (item) VALUES ('tea')")
    with shop:
        shop.execute("CREATE TABLE new_orders (id INTEGER PRIMARY KEY, item TEXT, price TEXT)")
        shop.execute("INSERT INTO new_orders SELECT * FROM orders")
        shop.execute("DROP TABLE orders")
        shop.execute("ALTER TABLE new_orders RENAME TO orders")
        shop.execute("INSERT INTO orders (item) VALUES ('milk')")
    assert not flow.wait_idle(0.5)
    assert "has lost orders_feed_delete" in flow.status().last_error
    rt.reload("feed")
    assert not flow.wait_idle(0.5)
    assert "'accept_gap': True" in flow.status().last_error
    rt.reload("feed", config=feed(tmp_path, accept_gap=True))
    assert flow.wait_idle(60)  # the flow starts the feed, which ends the gap
    with shop:
        shop.execute("INSERT INTO orders (item) VALUES ('bread')")
    assert flow.wait_idle(60)
    assert [event["new"]["item"] for _, event in in_lake(tmp_path)] == ["tea", "bread"]


def test_a_feed_that_trims_keeps_what_is_not_durable(rt, tmp_path, shop, streams):
    rt.reload("feed", config=feed(tmp_path, trim=True))
    flow = connect(streams)
    assert flow.wait_idle(60)
    for number in range(3):
        with shop:
            shop.executemany("INSERT INTO orders (item) VALUES (?)", [(f"tea {number}",)] * 1000)
        rt.reload("lake")
        assert flow.wait_idle(60)
        assert shop.execute("SELECT count(*) FROM orders_changes").fetchone() == (0,)
        rt.reload("feed")
    assert [number for (_, number), _ in in_lake(tmp_path)] == list(range(1, 3001))


@pytest.mark.parametrize("name", ["feed", "lake"])
def test_an_example_without_its_config_is_refused(rt, name):
    with pytest.raises(EpochalError, match="needs config="):
        rt.load(examples.path(name))


def test_an_unknown_example_is_refused():
    with pytest.raises(ValueError, match=r"there are: .*feed"):
        examples.path("nothing")
