"""The four parts of the second act: each uses a plugin all the time, and counts for itself.

A part is started once, stopped once, and then judges by its own count what the plugin kept. Its
counts are written by its own threads, each an own slot or under a lock, and read when these have
ended; while they run they are read for the screen, where an older figure does no harm.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pyarrow.dataset as ds

from epochal.demo.data import load_airports
from epochal.demo.stateful.report import Verdict
from epochal.examples import path
from epochal.jobs import Jobs, Streams
from epochal.kinds import service
from epochal.sql import Database

if TYPE_CHECKING:
    from pathlib import Path

    from epochal.jobs import Flow
    from epochal.runtime import Runtime

_TABLE: Final = "orders"


class Part(ABC):
    """Something that keeps, in use.

    Args:
        rt: the runtime.
        folder: where it may keep files.

    Attributes:
        plugins: the examples that it uses, each with its configuration.
        broken: for each plugin, a text of its source and what makes a version of it that cannot
            take over.
        faults: what went wrong, in words.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    broken: ClassVar[dict[str, tuple[str, str]]]

    def __init__(self, rt: Runtime, folder: Path) -> None:
        self.rt: Final = rt
        self.folder: Final = folder
        self.plugins: dict[str, dict[str, Any]] = {}
        self.faults: Final[list[str]] = []
        self._over: Final = threading.Event()
        self._threads: Final[list[threading.Thread]] = []

    def load(self) -> None:
        """Load its plugins."""
        for plugin, config in self.plugins.items():
            self.rt.load(path(plugin), config=config)

    @abstractmethod
    def start(self) -> None:
        """Begin to use them."""

    def stop(self) -> None:
        """End, with all that was begun."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @abstractmethod
    def did(self) -> int:
        """How often it used them, so far."""

    @abstractmethod
    def judge(self) -> Verdict:
        """Compare what was kept with what was done; once it has stopped."""

    def so_far(self) -> Verdict:
        """For the screen, while it runs."""
        return self.verdict(0, 0, "")

    def verdict(self, lost: int, doubled: int, remark: str) -> Verdict:
        """The record of it."""
        plugins = ", ".join(self.plugins)
        return Verdict(self.name, plugins, self.did(), self.unit, lost, doubled, remark)

    def _use(self, work: Any, number: int) -> None:
        """Have threads do something until it is over."""

        def run(index: int) -> None:
            try:
                while not self._over.is_set():
                    work(index)
            except Exception as error:  # noqa: BLE001  a fault of the run: it is in the report
                self.faults.append(f"{self.name}: {type(error).__name__}: {error}")

        for index in range(number):
            thread = threading.Thread(target=run, args=(index,), name=f"{self.name} {index}")
            self._threads.append(thread)
            thread.start()


class ServicePart(Part):
    """Threads count calls in the rate limiter; its counts must be theirs."""

    name = "service"
    unit = "calls counted"
    broken: ClassVar = {"quota": ('state["format"] != 1', 'state["format"] != 2')}
    _KEYS: Final = ("alice", "bob")

    def __init__(self, rt: Runtime, folder: Path) -> None:
        super().__init__(rt, folder)
        self.plugins = {"quota": {}}
        self._calls: Final = dict.fromkeys(self._KEYS, 0)

    def start(self) -> None:
        """One thread a key."""
        self._use(self._hit, len(self._KEYS))

    def _hit(self, index: int) -> None:
        key = self._KEYS[index]
        for _ in range(20):
            self.rt.epoch[service]["quota.limiter"].hit(key)
            self._calls[key] += 1
        self._over.wait(0.001)  # leave the others some of the processor

    def did(self) -> int:
        """Calls that returned."""
        return sum(self._calls.values())

    def judge(self) -> Verdict:
        """By key."""
        limiter = self.rt.epoch[service]["quota.limiter"]
        kept = {key: limiter.count(key) for key in self._KEYS}
        lost = sum(max(0, self._calls[key] - kept[key]) for key in self._KEYS)
        doubled = sum(max(0, kept[key] - self._calls[key]) for key in self._KEYS)
        return self.verdict(lost, doubled, "a rate limiter; its own counts agree")


class StreamPart(Part):
    """A thread changes a SQLite table; the changes must be in the Parquet files, each once."""

    name = "stream"
    unit = "changes streamed"
    broken: ClassVar = {
        "feed": ("self.number = number", "raise ValueError('other positions')"),
        "lake": ("if position is not None and _plain(position) != kept:", "if True:"),
    }

    def __init__(self, rt: Runtime, folder: Path) -> None:
        super().__init__(rt, folder)
        self._shop: Final = folder / "shop.db"
        self._lake: Final = folder / "lake"
        self.plugins = {
            "feed": {"path": str(self._shop), "table": _TABLE},
            "lake": {"folder": str(self._lake)},
        }
        with closing(sqlite3.connect(self._shop)) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                f"CREATE TABLE {_TABLE} (id INTEGER PRIMARY KEY, item TEXT, n INTEGER)"
            )
        self._streams: Final = Streams(rt)
        self._flow: Flow | None = None
        self._made = 0

    def start(self) -> None:
        """Connect the two, then write."""
        self._flow = flow = self._streams.connect("feed.changes", "lake.files", idle_s=0.005)
        if not flow.wait_idle(30.0):
            raise TimeoutError(f"the stream did not begin: {flow.status().last_error}")
        self._use(self._write, 1)

    def _write(self, _: int) -> None:
        with closing(sqlite3.connect(self._shop, timeout=30.0)) as database, database:
            done = database.execute(
                f"INSERT INTO {_TABLE} (item, n) VALUES ('tea', 1), ('milk', 2), ('bread', 3)"
            ).rowcount
            last = "(SELECT max(id) FROM orders)"
            done += database.execute(f"UPDATE {_TABLE} SET n = n + 1 WHERE id = {last}").rowcount
            done += database.execute(f"DELETE FROM {_TABLE} WHERE id = {last} - 1").rowcount
        self._made += done
        self._over.wait(0.004)

    def stop(self) -> None:
        """End the writer, let everything arrive, disconnect."""
        super().stop()
        if self._flow is not None and not self._flow.wait_idle(60.0):
            self.faults.append(f"stream: it did not arrive: {self._flow.status()}")
        self._streams.close()

    def did(self) -> int:
        """Rows that were inserted, updated and deleted."""
        return self._made

    def judge(self) -> Verdict:
        """By position and content: what the triggers noted, and what the files have."""
        with closing(sqlite3.connect(self._shop)) as database:
            noted = database.execute(f"SELECT position, op FROM {_TABLE}_changes").fetchall()
        positions = ds.dataset(self._lake, format="parquet").to_table()["position"].to_pylist()
        found = [json.loads(position)[1] for position in positions]
        lost = len(set(dict(noted)) - set(found)) + abs(len(noted) - self._made)
        files = len(list(self._lake.glob("*.parquet")))
        remark = f"a SQLite change feed into {files} Parquet files"
        return self.verdict(lost, len(found) - len(set(found)), remark)


class IndexPart(Part):
    """Threads search the names of all airports; every answer must be the first one's."""

    name = "index"
    unit = "searches"
    broken: ClassVar = {"fulltext": ("FORMAT = 1", "FORMAT = 2")}
    _WORDS: Final = ("international", "county AND regional", "municipal OR memorial", "heliport")
    _SQL: Final = (
        "SELECT a.name FROM fulltext.text($1, 50) f JOIN names a ON a.id = f.id "
        "ORDER BY f.score DESC, a.name"
    )

    def __init__(self, rt: Runtime, folder: Path) -> None:
        super().__init__(rt, folder)
        self.plugins = {"fulltext": {}}
        self._db: Final = Database(rt)
        self._searches = [0, 0]
        self._wrong = 0
        self._answers: Final[dict[str, Any]] = {}
        self._built = 0

    def start(self) -> None:
        """Build it once, then search."""
        airports = load_airports()
        names = airports.select(["name"]).add_column(0, "id", [list(range(airports.num_rows))])
        self._db.register("names", names)
        self._built = self._db.build_index("fulltext.text", "SELECT id, name FROM names")
        self._answers.update({words: self._search(words) for words in self._WORDS})
        self._use(self._search_all, len(self._searches))

    def _search(self, words: str) -> Any:
        with self._db.query(self._SQL, [words]) as result:
            return result.to_table()["name"].to_pylist()

    def _search_all(self, index: int) -> None:
        for words in self._WORDS:
            self._wrong += self._search(words) != self._answers[words]
            self._searches[index] += 1
        self._over.wait(0.005)

    def stop(self) -> None:
        """End the searches; the engine must have let go before the process leaves."""
        super().stop()
        self._db.close()

    def did(self) -> int:
        """Searches that were answered."""
        return sum(self._searches)

    def judge(self) -> Verdict:
        """By what was answered before the first reload."""
        remark = f"{self._built:,} names indexed once; every answer as before the first reload"
        return self.verdict(self._wrong, 0, remark)


class JobPart(Part):
    """A job writes a line at every tick; the lines must be the ticks that were due."""

    name = "job"
    unit = "ticks"
    broken: ClassVar = {"reporter": ("def init(ctx):", "def init(ctx):\n    raise OSError('no')")}
    _EVERY_S: Final = 0.05

    def __init__(self, rt: Runtime, folder: Path) -> None:
        super().__init__(rt, folder)
        self.plugins = {"reporter": {"path": str(folder / "shop.db"), "table": _TABLE}}
        self._jobs: Jobs | None = None
        self._status: Any = None

    def start(self) -> None:
        """Begin the schedule."""
        self._jobs = Jobs(self.rt)

    def stop(self) -> None:
        """End it, after the tick that is under way."""
        if self._jobs is not None:
            self._jobs.close()
            (self._status,) = self._jobs.status()
        super().stop()

    def did(self) -> int:
        """Ticks that ended well."""
        if self._jobs is None:
            return 0
        return sum(status.ticks for status in self._jobs.status())

    def judge(self) -> Verdict:
        """By the lines: one for each tick, and no gap that a tick would fit in."""
        with closing(sqlite3.connect(self.folder / "shop.db")) as database:
            lines = database.execute(f"SELECT at FROM {_TABLE}_report ORDER BY at").fetchall()
        if self._status.failures:
            self.faults.append(
                f"job: {self._status.failures} ticks failed: {self._status.last_error}"
            )
        times = [at for (at,) in lines]
        due = round((times[-1] - times[0]) / self._EVERY_S) + 1 if times else 0
        late = self._status.skipped
        # Where the machine is busy a tick begins late, and so the times at both ends are not exact.
        unaccounted = max(0, due - late - len(times) - 2)
        lost = max(0, self._status.ticks - len(times)) + unaccounted
        remark = f"a line each; {late} left out while the one before ran"
        return self.verdict(lost, max(0, len(times) - self._status.ticks), remark)


PARTS: Final[tuple[type[Part], ...]] = (ServicePart, StreamPart, IndexPart, JobPart)
