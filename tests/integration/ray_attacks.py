"""Kills of workers and changes during queries in parts on Ray, counted; run by test_ray.

Writes one JSON object into `found.json`, after each query. Each row says which version computed it,
so rows of a mix, rows that are lost and rows that are doubled are counted by the rows themselves.
"""

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from epochal import Runtime
from epochal.artifact import Artifact
from epochal.ray import query

PLUGIN = """# /// plugin
# id = "geo"
# version = "{n}.0"
# ///
import os, time
from epochal.kinds import aggregate, scalar

@scalar
def version(x: int) -> int: return {n}
@scalar
def waits(x: int) -> int:
    "The last row waits for the changes to be done."
    if x == {last}:
        for _ in range(6000):
            if os.path.exists({done!r}): return x
            time.sleep(0.05)
    return x
@aggregate
class total:
    sum: int = 0
    def update(self, x: int) -> None: self.sum += x
    def merge(self, other) -> None: self.sum += other.sum
    def evaluate(self) -> int: return self.sum
"""
ROWS, PARTS = 40_000, 6
ALL = ROWS * PARTS
PART = """SELECT geo.version(n), min(n) AS first, count(*) AS rows, count(DISTINCT n),
    geo.total(geo.waits(n)) AS s FROM data GROUP BY 1"""


class Attack:
    """Queries, and what is wrong with their answers."""

    def __init__(self, folder):
        self.done, self.answer = folder / "done", folder / "found.json"
        self.files = []
        for part in range(PARTS):
            self.files.append(folder / f"{part}.parquet")
            pq.write_table(pa.table({"n": range(part * ROWS, (part + 1) * ROWS)}), self.files[-1])
        self.found = {"queries": 0, "mixed": 0, "lost": 0, "doubled": 0, "wrong": 0}

    def plugin(self, n):
        source = PLUGIN.format(n=n, last=ALL - 1, done=str(self.done))
        return Artifact("geo", {"geo.py": source.encode()})

    def query(self, rt, begun=lambda done, of: None):
        version = int(rt.epoch.generations["geo"].version.partition(".")[0])
        result = query(rt, part=PART, files=self.files, progress=begun)
        rows = result.rows()
        self.found["queries"] += 1
        self.found["mixed"] += sum(row[2] for row in rows if row[0] != version)
        different = {first // ROWS: there for _, first, _, there, _ in rows}
        self.found["lost"] += ALL - sum(different.values())
        self.found["doubled"] += sum(row[2] for row in rows) - sum(different.values())
        self.found["wrong"] += sum(row[4] for row in rows) != ALL * (ALL - 1) // 2
        self.found["wrong"] += result.provenance["geo"][0] != f"{version}.0"
        self.write()

    def write(self):
        self.answer.write_text(json.dumps(self.found))


def kills(attack, rt, count, seed):
    """Kill a worker at a random instant of each query, until there were so many kills."""
    draw = random.Random(seed)
    attack.done.touch()
    attack.found["kills"] = killed = 0
    attack.query(rt)  # the workers are there
    while killed < count:
        after, over = draw.uniform(0.0, 1.0), threading.Event()

        def kill(after=after, over=over):
            over.wait(after)
            pids = {int(hold.worker.rpartition(":")[2]) for hold in rt.cluster.holds()}
            while not over.is_set() and pids - {os.getpid()}:
                victim = draw.choice(sorted(pids - {os.getpid()}))
                pids.discard(victim)
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # an earlier victim, whose word has not expired
                attack.found["kills"] += 1
                return

        killing = threading.Thread(target=kill)
        killing.start()
        try:
            attack.query(rt)
        finally:
            over.set()
            killing.join()
        killed = attack.found["kills"]
        if attack.found["queries"] % 10 == 0:
            rt.reload("geo", attack.plugin(attack.found["queries"]))
        assert attack.found["queries"] < 20 * count


def changes(attack, rt, count):
    """Make changes during one query, which cannot end before they are made."""
    changing = []

    def change():
        for n in range(count):
            rt.reload("geo", attack.plugin(1000 + n))
        attack.done.touch()

    def begun(done, of):
        if not changing:  # the first part is there
            changing.append(threading.Thread(target=change))
            changing[0].start()

    attack.query(rt, begun)
    changing[0].join()
    attack.found["changes"] = count
    attack.query(rt)


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200_000_000)
    folder, what, count, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    attack = Attack(folder)
    with Runtime(share=folder / "share", drain_timeout=0.0) as rt:
        rt.load(attack.plugin(0))
        if what == "kills":
            kills(attack, rt, count, seed)
        else:
            changes(attack, rt, count)
    attack.write()
    ray.shutdown()
