"""The parts of the stateful demonstration: each uses a plugin all the time, and counts for itself.

A part is a generator. It loads its plugins, begins to use them, and yields a function that counts
the uses so far; resumed when its threads have ended, it compares the plugin's state with its own
count, and returns the differences. Its own threads write its counts, each in a slot of its own.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow.dataset as ds

from epochal.demo.data import load_airports
from epochal.examples import path
from epochal.jobs import Jobs, Streams
from epochal.kinds import service
from epochal.sql import Database

if TYPE_CHECKING:
    from pathlib import Path

    from epochal import Runtime

_TABLE: Final = "orders"
_TICK_S: Final = 0.05  # of the job in the plugin `reporter`

Life: TypeAlias = Generator[Callable[[], int], None, tuple[int, int, str]]
"""Yields a function that counts the uses; returns lost uses, doubled uses, and a remark.

It returns, since a frame that waits at a second yield would keep the plugins in use.
"""


@dataclass
class Bench:
    """The means that the parts work with; `ends` closes everything that they began."""

    rt: Runtime
    folder: Path
    faults: list[str]
    ends: ExitStack
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def load(self, plugin: str, **config: Any) -> None:
        """Load an example plugin."""
        self.rt.load(path(plugin), config=config)

    def repeat(self, work: Callable[[Any], object], items: Iterable[Any], pause_s: float) -> None:
        """Have one thread for each item do the work again and again."""

        def run(item: Any) -> None:
            try:
                while not self._over.wait(pause_s):  # leaves the others some of the processor
                    work(item)
            except Exception as error:  # noqa: BLE001  a fault of the run: it is in the report
                self.faults.append(f"{work.__qualname__}: {type(error).__name__}: {error}")

        for item in items:
            thread = threading.Thread(target=run, args=(item,))
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._over.set()
        for thread in self._threads:
            thread.join()


@dataclass(frozen=True, slots=True)
class Part:
    """One part."""

    name: str
    unit: str  # of its count
    life: Callable[[Bench], Life]
    broken: dict[str, tuple[str, str]]  # plugin -> an edit with which it cannot take over


def _service(bench: Bench) -> Life:
    """Threads count calls in the rate limiter; its counts must equal theirs."""
    calls = {"alice": 0, "bob": 0}

    def hit(key: str) -> None:
        for _ in range(20):
            bench.rt.epoch[service]["quota.limiter"].hit(key)
            calls[key] += 1

    bench.load("quota")
    bench.repeat(hit, calls, 0.001)
    yield lambda: sum(calls.values())
    limiter = bench.rt.epoch[service]["quota.limiter"]
    gaps = [made - limiter.count(key) for key, made in calls.items()]
    lost, doubled = sum(max(0, gap) for gap in gaps), sum(max(0, -gap) for gap in gaps)
    return lost, doubled, "a rate limiter; its own counts agree"


def _stream(bench: Bench) -> Life:
    """A thread changes a SQLite table; each change must be in the Parquet files once."""
    shop, lake = bench.folder / "shop.db", bench.folder / "lake"
    made = [0]
    last = f"(SELECT max(id) FROM {_TABLE})"
    statements = (
        f"INSERT INTO {_TABLE} (item, n) VALUES ('tea', 1), ('milk', 2), ('bread', 3)",
        f"UPDATE {_TABLE} SET n = n + 1 WHERE id = {last}",
        f"DELETE FROM {_TABLE} WHERE id = {last} - 1",
    )

    def write(slot: int) -> None:
        with closing(sqlite3.connect(shop, timeout=30.0)) as database, database:
            changed = sum(database.execute(statement).rowcount for statement in statements)
        made[slot] += changed

    with closing(sqlite3.connect(shop)) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"CREATE TABLE {_TABLE} (id INTEGER PRIMARY KEY, item TEXT, n INTEGER)")
    bench.load("feed", path=str(shop), table=_TABLE)
    bench.load("lake", folder=str(lake))
    streams = bench.ends.enter_context(Streams(bench.rt))
    flow = streams.connect("feed.changes", "lake.files", idle_s=0.005)
    if not flow.wait_idle(30.0):
        raise TimeoutError(f"the stream did not begin: {flow.status().last_error}")
    bench.repeat(write, [0], 0.004)
    yield lambda: made[0]
    if not flow.wait_idle(60.0):
        bench.faults.append(f"stream: it did not arrive: {flow.status()}")
    streams.close()
    with closing(sqlite3.connect(shop)) as database:
        recorded = [n for (n,) in database.execute(f"SELECT position FROM {_TABLE}_changes")]
    column = ds.dataset(lake, format="parquet").to_table()["position"].to_pylist()
    arrived = [json.loads(position)[1] for position in column]
    lost = len(set(recorded) - set(arrived)) + abs(len(recorded) - made[0])
    remark = f"a SQLite change feed into {len(list(lake.glob('*.parquet')))} Parquet files"
    return lost, len(arrived) - len(set(arrived)), remark


def _index(bench: Bench) -> Life:
    """Threads search the names of all airports; every answer must equal the first one."""
    words = ("international", "county AND regional", "municipal OR memorial", "heliport")
    sql = (
        "SELECT a.name FROM fulltext.text($1, 50) f JOIN names a ON a.id = f.id "
        "ORDER BY f.score DESC, a.name"
    )
    searches, wrong = [0, 0], [0, 0]

    def search(text: str) -> Any:
        with db.query(sql, [text]) as result:
            return result.to_table()["name"].to_pylist()

    def search_all(slot: int) -> None:
        for text in words:
            wrong[slot] += search(text) != answers[text]
            searches[slot] += 1

    db = Database(bench.rt)
    bench.ends.callback(db.close)  # the engine must release every plugin before the process exits
    bench.load("fulltext")
    names = load_airports().select(["name"])
    db.register("names", names.add_column(0, "id", [list(range(len(names)))]))
    built = db.build_index("fulltext.text", "SELECT id, name FROM names")
    answers = {text: search(text) for text in words}
    bench.repeat(search_all, range(len(searches)), 0.005)
    yield lambda: sum(searches)
    remark = f"{built:,} names indexed once; every answer as before the first reload"
    return sum(wrong), 0, remark


def _job(bench: Bench) -> Life:
    """A job writes a line at every run; the lines must be the runs that were due."""
    shop = bench.folder / "shop.db"
    bench.load("reporter", path=str(shop), table=_TABLE)
    jobs = bench.ends.enter_context(Jobs(bench.rt))
    yield lambda: sum(status.ticks for status in jobs.status())
    jobs.close()  # after the run that is under way
    (job,) = jobs.status()
    with closing(sqlite3.connect(shop)) as database:
        lines = database.execute(f"SELECT at FROM {_TABLE}_report ORDER BY at").fetchall()
    if job.failures:
        bench.faults.append(f"job: {job.failures} ticks failed: {job.last_error}")
    due = round((lines[-1][0] - lines[0][0]) / _TICK_S) + 1 if lines else 0
    # On a busy machine a run begins late, and so the times at both ends are not exact.
    unaccounted = max(0, due - job.skipped - len(lines) - 2)
    lost = max(0, job.ticks - len(lines)) + unaccounted
    remark = f"a line each; {job.skipped} skipped while the one before ran"
    return lost, max(0, len(lines) - job.ticks), remark


_BROKEN_STREAM: Final = {
    "feed": ("self.number = number", "raise ValueError('other positions')"),
    "lake": ("if position is not None and _plain(position) != durable:", "if True:"),
}
_BROKEN_JOB: Final = {"reporter": ("def init(ctx):", "def init(ctx):\n    raise OSError('no')")}

PARTS: Final = (
    Part("service", "calls counted", _service, {"quota": ('["format"] != 1', '["format"] != 2')}),
    Part("stream", "changes streamed", _stream, _BROKEN_STREAM),
    Part("index", "searches", _index, {"fulltext": ("FORMAT = 1", "FORMAT = 2")}),
    Part("job", "ticks", _job, _BROKEN_JOB),
)
