"""The stream examples: a change feed of SQLite arrives in Parquet, whole and once."""

import json
import sqlite3

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from tests.integration.stream_parts import QUICK

from epochal import examples
from epochal.errors import EpochalError
from epochal.jobs import Streams


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
