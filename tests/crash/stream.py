"""Kill a process at random instants while a stream flows and both of its ends are reloaded.

`python -m tests.crash.stream 300 --seed 1`. This process has imported everything and runs no
thread; each trial is a fork of it. The fork changes a table, whose changes flow into Parquet files,
until it is killed. In the end all changes that SQLite committed must be in the files: in order, and
once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from epochal import Runtime, examples
from epochal.jobs import Streams
from tests.integration.stream_parts import QUICK

if TYPE_CHECKING:
    from epochal.jobs import Flow


def flow_until_killed(folder: Path, seed: int, out: int) -> None:
    """Let changes of a table flow into Parquet files, and reload both ends, for ever."""
    draw = random.Random(seed)
    database = sqlite3.connect(folder / "shop.db", isolation_level=None)
    with closing(database) as shop, Runtime() as rt, Streams(rt, retry=QUICK) as streams:
        connect(rt, streams, folder)
        os.write(out, b"flows\n")
        while True:
            rows = [(draw.random(),) for _ in range(draw.randrange(1, 40))]
            shop.execute("BEGIN")
            shop.executemany("INSERT INTO orders (price) VALUES (?)", rows)
            shop.execute("DELETE FROM orders WHERE id % 7 = ?", (draw.randrange(7),))
            shop.execute("COMMIT")
            if draw.random() < 0.2:
                rt.reload(draw.choice(["feed", "lake"]))


def connect(rt: Runtime, streams: Streams, folder: Path) -> Flow:
    rt.load(examples.path("feed"), config={"path": str(folder / "shop.db"), "table": "orders"})
    rt.load(examples.path("lake"), config={"folder": str(folder / "lake")})
    return streams.connect("feed.changes", "lake.files", batch=50, idle_s=0.001)


def kill_one(folder: Path, seed: int, delay_s: float) -> None:
    """Run it in a fork, which is killed so many seconds after its stream was connected."""
    reports, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            flow_until_killed(folder, seed, sink)
        except BaseException as error:  # noqa: BLE001  reported to the parent
            os.write(sink, f"failed {error!r}\n".encode())
        os._exit(1)
    os.close(sink)
    with os.fdopen(reports) as lines:
        begun = lines.readline()
        time.sleep(delay_s)  # the random instant: it waits for no event
        os.kill(child, signal.SIGKILL)
        rest = lines.read()
    os.waitpid(child, 0)
    assert (begun, rest) == ("flows\n", "")


def stored(folder: Path) -> tuple[int, list[tuple[int, str]]]:
    """The number of files, and the changes in them: each its position and its sort."""
    files = sorted(folder.glob("*.parquet"))
    columns = ds.dataset(files, format="parquet").to_table().to_pydict().values()
    changes = [
        (json.loads(at)[1], json.loads(event)["op"]) for at, event in zip(*columns, strict=True)
    ]
    return len(files), changes


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.crash.stream", description=__doc__.splitlines()[0])
    parser.add_argument("trials", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(sqlite3.connect(folder / "shop.db")) as shop:
            shop.execute("PRAGMA journal_mode = WAL")
            shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, price REAL)")
        for seed in range(options.trials):
            kill_one(folder, seed, draw.uniform(0.0, 0.2))
        with Runtime() as rt, Streams(rt, retry=QUICK) as streams:
            assert connect(rt, streams, folder).wait_idle(60)
        with closing(sqlite3.connect(folder / "shop.db")) as shop:
            question = "SELECT position, op FROM orders_changes ORDER BY position"
            logged = shop.execute(question).fetchall()
        files, arrived = stored(folder / "lake")
        assert arrived == logged
        print(json.dumps({"changes": len(logged), "files": files}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
