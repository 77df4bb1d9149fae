"""Past one process: what a worker costs, and what a cluster asks of the share.

`python -m benchmarks.scale` measures on a share in a folder; `--simulate 100 10000` counts, with
the code that runs, the requests and bytes of one worker and of one change, and multiplies.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter, sleep

from epochal import Runtime
from epochal.artifact import Artifact
from epochal.kinds import scalar
from epochal.share import Share
from epochal.worker import ProcessEpochs


def plugin(version: int, name: str = "geo") -> Artifact:
    source = (
        f'# /// plugin\n# id = "{name}"\n# version = "1.{version}"\n# ///\n'
        "from epochal.kinds import scalar\n\n@scalar\ndef f(x: int) -> int:\n"
        f"    return x + {version}\n"
    )
    return Artifact(name, {f"{name}.py": source.encode()})


def _size(sent: tuple[bytes, ...], answer: object) -> int:
    return sum(map(len, sent)) + (len(answer) if isinstance(answer, bytes) else 0)


class Counting:
    """The files of a share, with each request counted."""

    def __init__(self, share: Share) -> None:
        self._files, self.requests, self.bytes = share.files, Counter(), Counter()
        share.files = self  # type: ignore[misc, assignment]

    def __getattr__(self, name: str):
        made = getattr(self._files, name)
        if name not in {"read", "write", "list", "has", "remove"}:
            return made

        def counted(path: str, *args: bytes):
            answer = made(path, *args)
            self.requests[name] += 1
            self.bytes[name] += _size(args, answer)
            return answer

        return counted

    def take(self) -> tuple[Counter, int]:
        taken = self.requests, self.bytes["read"] + self.bytes["write"]
        self.requests, self.bytes = Counter(), Counter()
        return taken


def measure(folder: str, rounds: int) -> None:
    with Runtime(share=folder) as rt, ProcessEpochs(Share(folder), keep=1) as worker:
        rt.load(plugin(0))
        builds, looks, publishes, gone = [], [], [], []
        for n in range(1, rounds + 1):
            began = perf_counter()
            rt.reload("geo", plugin(n))
            published = perf_counter()
            epoch = worker.get(rt.epoch.id)
            builds.append(perf_counter() - published)
            assert epoch[scalar]["geo.f"](1) == 1 + n
            publishes.append(perf_counter() - began)
            began = perf_counter()
            for _ in range(1000):
                worker.get(epoch.id)
            looks.append((perf_counter() - began) / 1000)
            del epoch
            began = perf_counter()
            while len(worker.held) > 1 or worker.draining:
                sleep(0.002)
            gone.append(perf_counter() - began)
        sent = len(pickle.dumps(rt.epoch.remote[scalar]["geo.f"])) - len(folder)
        for label, values, unit in (
            ("build one small plugin's epoch on a worker", builds, 1e3),
            ("change and first call on a warm worker", publishes, 1e3),
            ("old epoch gone from a worker after its last lease", gone, 1e3),
        ):
            print(
                f"{label}: {statistics.median(values) * unit:.1f} ms, max {max(values) * unit:.1f}"
            )
        print(f"look an epoch up: {statistics.median(looks) * 1e6:.1f} us")
        print(f"a remote export in a pickle: {sent} bytes and the share's address")


def simulate(folder: str, sizes: list[int], plugins: int) -> None:
    driver = Counting(share := Share(folder))
    with Runtime(share=share) as rt:
        with rt.change() as change:
            for n in range(plugins):
                change.load(plugin(0, f"p{n}"))
        driver.take()
        rt.reload("p0", plugin(1, "p0"))
        rows = [("driver, one change", *driver.take(), 1)]
        with rt.lease("query"):
            pass
        rows.append(("driver, one lease", *driver.take(), 1))
        worker = Counting(share := Share(folder))
        epochs = ProcessEpochs(share, keep=1)
        epochs.get(rt.epoch.id)
        sleep(0.2)
        rows.append(("a worker, cold", *worker.take(), 0))
        rt.reload("p0", plugin(2, "p0"))
        epochs.get(rt.epoch.id)
        while len(epochs.held) > 1:
            sleep(0.01)
        sleep(0.2)
        rows.append(("a worker, one change", *worker.take(), 0))
        for _ in range(100):
            epochs.get(rt.epoch.id)
        rows.append(("a worker, 100 queries", *worker.take(), 0))
        epochs.close()
    print(f"| {plugins} plugins | requests | KiB |" + "".join(f" {n:,} workers |" for n in sizes))
    print("|---|---|---|" + "---|" * len(sizes))
    for label, requests, size, is_one in rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(requests.items())) or "none"
        total = sum(requests.values())
        cells = "".join(
            f" {total if is_one else total * n:,} requests, "
            f"{size * (1 if is_one else n) / 2**20:,.1f} MiB |"
            for n in sizes
        )
        print(f"| {label} | {kinds} | {size / 1024:.1f} |{cells}")


def parts(folder: Path, turns: int) -> None:
    """How many times faster two Ray workers are than one process, which has all processors, too."""
    import ray

    from epochal.demo.scale import MEASURE, measure_ratio, swap, write_files

    os.environ.setdefault("RAY_worker_niceness", "0")  # else they get what others leave
    rows, count = 3_000_000, 8
    files = write_files(folder / "data", [rows * part // count for part in range(count + 1)])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with Runtime(share=folder / "share", drain_timeout=0.0) as rt:
        swap(rt, 1)
        for label, sql in (
            ("a Python scalar of each row", MEASURE),
            ("the engine's own functions alone", MEASURE.replace("geo.chord", "sqrt")),
        ):
            before = os.getloadavg()[0]
            ratio = measure_ratio(rt, files, turns, sql)
            print(f"{label}: {ratio:.2f} times as fast as one process (load {before:.1f} before)")
    ray.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--plugins", type=int, default=10)
    parser.add_argument("--simulate", type=int, nargs="+", metavar="WORKERS")
    parser.add_argument("--parts", type=int, metavar="TURNS", help="queries in parts, with Ray")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.parts:
            parts(Path(name), options.parts)
        elif options.simulate:
            simulate(name, options.simulate, options.plugins)
        else:
            measure(name, options.rounds)
