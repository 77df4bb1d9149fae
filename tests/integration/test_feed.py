"""The change feed by itself: every change of every value, or an error about those it missed."""

import json
import random
import sqlite3
import struct

import pytest

from epochal import examples


@pytest.fixture
def shop(tmp_path):
    database = sqlite3.connect(tmp_path / "shop.db")
    yield database
    database.close()


class Feed:
    """The plugin's object, called without a stream."""

    def __init__(self, rt, folder, **config):
        rt.load(
            examples.path("feed"),
            config={"path": str(folder / "shop.db"), "table": "orders", **config},
        )
        generation = next(iter(rt.epoch.generations.values()))
        (opened,) = generation.opened.values()
        self.object = opened.instance.target
        self.object.start(None)

    def events(self):
        """The events up to now, as a sink would store them."""
        return json.loads(json.dumps([event for _, event in self.object.read(10_000)]))

    def new(self):
        """The rows in the events."""
        return [event["new"] for event in self.events()]


@pytest.fixture
def make(rt, tmp_path, shop):
    def make(ddl, **config):
        shop.execute(ddl)
        return Feed(rt, tmp_path, **config)

    return make


def insert(shop, *values):
    with shop:
        shop.execute(f"INSERT INTO orders VALUES ({', '.join('?' * len(values))})", values)


def test_every_value_of_a_row_is_in_its_event(make, shop):
    names = [f"c{n}" for n in range(150)]
    feed = make(f"CREATE TABLE orders (id INTEGER PRIMARY KEY, {', '.join(names)})")
    values = {
        "id": 2**63 - 1,
        "c0": b"\x00\xff",
        "c1": "00ff",
        "c2": 1.0,
        "c3": 1,
        "c4": '"}\\',
        "c59": "{",
        "c60": "a\0b",
        "c61": float("inf"),
        "c62": -float("inf"),
        "c149": "ä\U0001f375",
    }
    with shop:
        marks = ", ".join("?" * len(values))
        sql = f"INSERT INTO orders ({', '.join(values)}) VALUES ({marks})"
        shop.execute(sql, tuple(values.values()))
    (row,) = feed.new()
    encoded = {"c0": {"blob": "00ff"}, "c61": {"real": "Inf"}, "c62": {"real": "-Inf"}}
    assert row == dict.fromkeys(["id", *names]) | values | encoded
    assert (type(row["c2"]), type(row["c3"])) == (float, int)


def test_a_number_keeps_its_last_bit(make, shop):
    feed = make("CREATE TABLE orders (x REAL)")
    numbers = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 1e22 + 2e6]
    chance = random.Random(1)
    numbers += [struct.unpack("d", chance.randbytes(8))[0] for _ in range(2_000)]
    numbers = [number for number in numbers if number == number]
    with shop:
        shop.executemany("INSERT INTO orders VALUES (?)", [(number,) for number in numbers])
    assert [row["x"] for row in feed.new()] == numbers


def test_text_that_is_not_utf_8_keeps_its_bytes(make, shop):
    feed = make("CREATE TABLE orders (x TEXT)")
    with shop:
        shop.execute("INSERT INTO orders VALUES (cast(x'ff41' AS TEXT)), ('fine')")
    bytes_text, text = [row["x"] for row in feed.new()]
    assert (bytes_text.encode("utf-8", "surrogateescape"), text) == (b"\xffA", "fine")


def test_generated_columns_are_in_the_event(make, shop):
    feed = make("CREATE TABLE orders (x, y AS (x * 2) STORED, z AS (x * 3))")
    with shop:
        shop.execute("INSERT INTO orders (x) VALUES (5)")
    assert feed.new() == [{"x": 5, "y": 10, "z": 15}]


@pytest.mark.parametrize("kind", ["", "WITHOUT ROWID"])
def test_a_changed_key_comes_with_the_old_one(make, shop, kind):
    feed = make(f"CREATE TABLE orders (a TEXT, b INTEGER, PRIMARY KEY (a, b)) {kind}")
    insert(shop, "x", 1)
    with shop:
        shop.execute("UPDATE orders SET b = 2")
        shop.execute("DELETE FROM orders")
    first, second = {"a": "x", "b": 1}, {"a": "x", "b": 2}
    assert feed.events() == [
        {"op": "insert", "new": first},
        {"op": "update", "old": first, "new": second},
        {"op": "delete", "old": second},
    ]


def test_added_and_renamed_columns_are_followed(make, shop):
    feed = make("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    assert feed.events() == []
    shop.execute("ALTER TABLE orders ADD COLUMN price REAL")
    shop.execute("ALTER TABLE orders RENAME COLUMN item TO goods")
    assert feed.events() == []
    insert(shop, 1, "tea", 4.5)
    assert feed.new() == [{"id": 1, "goods": "tea", "price": 4.5}]


def test_a_dropped_table_is_an_error(make, shop):
    feed = make("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    shop.execute("DROP TABLE orders")
    for ask in (lambda: feed.object.read(10), lambda: feed.object.start(None)):
        with pytest.raises(ValueError, match="has no table 'orders'"):
            ask()


def test_a_feed_with_its_triggers_in_place_needs_no_write_lock(make, shop):
    feed = make("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    shop.execute("BEGIN IMMEDIATE")
    feed.object.start(feed.object.checkpoint())
    assert feed.events() == []
    shop.rollback()


def test_a_position_of_another_log_is_refused(make, shop, tmp_path):
    feed = make("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    insert(shop, 1)
    backup = sqlite3.connect(tmp_path / "backup.db")
    shop.backup(backup)
    insert(shop, 2)
    assert len(feed.events()) == 2
    log, number = feed.object.checkpoint()
    with pytest.raises(ValueError, match="of another log"):
        feed.object.start(["0123", number])
    backup.backup(shop)
    backup.close()
    for ask in (lambda: feed.object.read(10), lambda: feed.object.start([log, number])):
        with pytest.raises(ValueError, match="has change 2 of 'orders', whose log ends with 1"):
            ask()
    shop.execute("DROP TABLE orders_feed")
    with pytest.raises(ValueError, match="and is now"):
        feed.object.read(10)
    with pytest.raises(ValueError, match="of another log"):
        feed.object.start([log, 1])


def test_durable_events_are_deleted_and_an_earlier_start_is_refused(make, shop):
    feed = make("CREATE TABLE orders (id INTEGER PRIMARY KEY)", trim=True)
    for number in range(5):
        insert(shop, number)
    assert len(feed.events()) == 5
    log, _ = feed.object.checkpoint()
    feed.object.acknowledge([log, 3])
    left = shop.execute("SELECT position FROM orders_changes").fetchall()
    assert left == [(4,), (5,)]
    feed.object.start([log, 3])
    assert len(feed.events()) == 2
    for position in (None, [log, 2]):
        with pytest.raises(ValueError, match="up to 3 are deleted"):
            feed.object.start(position)


def test_a_feed_deletes_nothing_by_default(make, shop):
    feed = make("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    insert(shop, 1)
    assert len(feed.events()) == 1
    feed.object.acknowledge(feed.object.checkpoint())
    feed.object.start(None)
    assert len(feed.events()) == 1
