"""A query in parts on Ray, while its plugin is reloaded and a worker is killed; run by test_ray.

Prints one JSON object. Each row says which version computed it, so rows of a mix, rows that are
lost and rows that are doubled are counted by the rows themselves.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from epochal import Runtime
from epochal.artifact import Artifact
from epochal.errors import EpochUnavailableError, FunctionError
from epochal.kinds import scalar
from epochal.ray import prepare, query

PLUGIN = """# /// plugin
# id = "geo"
# version = "1.{n}"
# dependencies = [{needs}]
# ///
from epochal.kinds import aggregate, scalar
{body}
@aggregate
class mean:
    count: int = 0
    total: int = 0
    def update(self, x: int) -> None:
        self.count += 1
        self.total += x
    def merge(self, other) -> None:
        self.count += other.count
        self.total += other.total
    def evaluate(self) -> float: return self.total / self.count
@scalar
def version(x: int) -> int: return {n}
@scalar
def f(x: int) -> int: return x + {n}
@scalar
def fails(x: int) -> int: raise ValueError("not this row")
"""
PART = "SELECT geo.version(n) AS v, sum(geo.f(n)) AS s, count(*) AS c FROM data GROUP BY 1"
FINAL = "SELECT v, sum(s), sum(c) FROM parts GROUP BY 1"


def plugin(n, body="", needs=""):
    return Artifact("geo", {"geo.py": PLUGIN.format(n=n, body=body, needs=needs).encode()})


@ray.remote
def process_of_a_worker():
    return os.getpid()


@ray.remote
def call(function, x):
    return function(x)


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def main(folder: Path, queries: int, rows: int, parts: int) -> dict:
    files = []
    for n in range(parts):
        files.append(folder / f"part{n}.parquet")
        pq.write_table(pa.table({"n": range(n * rows, (n + 1) * rows)}), files[-1])
    total = parts * rows
    found = {"queries": 0, "mixed": 0, "lost": 0, "wrong": 0, "kills": 0, "reloads": 0}
    done = threading.Event()
    with Runtime(share=folder / "share", drain_timeout=0.0) as rt:
        rt.load(plugin(0))

        def disturb():
            n = 0
            while not done.wait(0.2):
                n += 1
                rt.reload("geo", plugin(n))
                found["reloads"] += 1
                if n % 5 == 2:
                    os.kill(ray.get(process_of_a_worker.remote()), signal.SIGKILL)
                    found["kills"] += 1

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        reported = []
        try:
            while found["queries"] < queries or not found["kills"] or not found["reloads"]:
                result = query(
                    rt,
                    part=PART,
                    final=FINAL,
                    files=files,
                    progress=lambda at, of: reported.append((at, of)),
                )
                found["queries"] += 1
                found["mixed"] += len(result.rows()) != 1
                [(version, summed, count)] = result.rows()[:1]
                found["lost"] += count != total
                found["wrong"] += summed != total * (total - 1) // 2 + version * total
                found["wrong"] += result.provenance["geo"][0] != f"1.{version}"
        finally:
            done.set()
            disturbing.join()
        found["progress"] = reported[parts - 1] == (parts, parts)
        began = rt.epoch
        sent = began.remote[scalar]["geo.f"]
        rt.reload("geo", plugin(1000))
        new = rt.epoch.remote[scalar]["geo.f"]
        found["task_on_old"] = ray.get(call.remote(sent, 0)) == began[scalar]["geo.f"](0)
        found["task_on_new"] = ray.get(call.remote(new, 0)) == 1000
        found["prepared"] = len(prepare(rt)) == len(ray.nodes())
        here = f"import os\nif os.getpid() != {os.getpid()}: raise RuntimeError('not on workers')"
        try:
            rt.reload("geo", plugin(1001, here), prepare=partial(prepare, rt))
        except EpochUnavailableError as error:
            found["refused"] = "not on workers" in str(error)
        else:
            found["refused"] = False
        found["serves"] = rt.epoch[scalar]["geo.f"](0)
        merged = query(
            rt,
            merge="SELECT geo.version(n) AS v, geo.mean(n) AS m, count(*) FROM data GROUP BY v",
            final='SELECT v, m, "count(*)" FROM parts ORDER BY v',
            files=files,
        )
        found["merged"] = merged.rows() == [(1000, (total - 1) / 2, total)]
        once = folder / "failed"
        fails_once = f"""import os
if os.getpid() != {os.getpid()}:
    try: os.close(os.open({str(once)!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError: pass
    else: raise RuntimeError('not in this worker')
"""
        rt.reload("geo", plugin(1002, fails_once))
        [(version, _, count)] = query(rt, part=PART, final=FINAL, files=files).rows()
        found["replaced"] = (version, count) == (1002, total)
        said = [hold for hold in rt.cluster.holds() if "not in this worker" in hold.error]
        found["replaced_said"] = [int(h.worker.rpartition(":")[2]) for h in said]
        found["replaced_ended"] = [not is_alive(p) for p in found["replaced_said"]]
        try:
            query(rt, part="SELECT geo.fails(n) FROM data", files=files)
        except FunctionError as error:
            found["failed"] = error.function == "geo.fails" and "not this row" in str(error)
        rt.reload("geo", plugin(1003, here))
        try:
            query(rt, part=PART, final=FINAL, files=files)
        except EpochUnavailableError as error:
            found["nowhere"] = "not on workers" in str(error)
    return found


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200_000_000)
    began = time.monotonic()
    answer = main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    print(json.dumps({**answer, "seconds": time.monotonic() - began}))
    ray.shutdown()
