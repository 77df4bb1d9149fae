"""`make demo-ray`: SQL in parts over Ray's workers, while plugins change and a worker is killed.

The flights are repeated to three million rows in Parquet files, and each row has a number. Two
plugins are replaced together again and again; each row says which version of both computed it. So
the rows themselves say whether one is of a mix, lost or doubled, in every query. Afterwards the
same query runs by turns in one process and in parts.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import statistics
import sys
import tempfile
import threading
from bisect import bisect_right
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from epochal import Runtime
from epochal.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from epochal.ray import PartsResult

_PLUGINS: Final = ("geo", "fare")
_GAP_S: Final = 0.3
_SOURCE: Final = """\
# /// plugin
# id = "{plugin}"
# version = "{version}.0"
# ///
from math import cos, sin, sqrt

from epochal.kinds import scalar


@scalar
def version(row: int) -> int:
    return {version}


@scalar
def chord(miles: float) -> float:
    angle = miles / 3959.0
    return {version} * 3959.0 * sqrt(sin(angle) ** 2 + (1.0 - cos(angle)) ** 2)
"""
_CHECK: Final = """
SELECT geo.version(n) AS geo, fare.version(n) AS fare, min(n) AS first, count(*) AS rows,
    count(DISTINCT n) AS different
FROM data GROUP BY 1, 2"""
MEASURE: Final = """
SELECT origin, count(*) AS flights, sum(geo.chord(distance)) AS chords
FROM data GROUP BY origin"""


@dataclass
class Checks:
    """What the queries have said so far.

    The main thread writes the counts of queries, the changing thread `reloads` and `kills`; what
    reads them for the screen sees a count or the next one.

    Attributes:
        starts: the number of the first row of each part, and the number of all rows.
        queries: how many queries were checked.
        rows: how many rows they computed.
        mixed: rows whose versions are not those that the result's provenance names.
        lost: rows that no part answered.
        doubled: rows that were answered more than once.
        overtaken: queries that ended on an epoch that had been replaced.
        reloads: changes of both plugins.
        kills: workers that were killed.
    """

    starts: Sequence[int]
    queries: int = 0
    rows: int = 0
    mixed: int = 0
    lost: int = 0
    doubled: int = 0
    overtaken: int = 0
    reloads: int = 0
    kills: int = 0

    def add(self, answer: Iterable[Sequence[int]], promised: Sequence[str]) -> None:
        """Check one answer.

        Args:
            answer: for each part and pair of versions: both versions, the first row's number, and
                how many rows and how many different ones there are.
            promised: the versions of both plugins by the result's provenance.
        """
        rows, different = Counter[int](), Counter[int]()
        for *versions, first, count, distinct in answer:
            part = bisect_right(self.starts, first) - 1
            rows[part] += count
            different[part] += distinct
            self.mixed += count * ([f"{version}.0" for version in versions] != [*promised])
        for part, (start, end) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            there = min(different[part], end - start)
            self.lost += end - start - there
            self.doubled += rows[part] - there
        self.queries += 1
        self.rows += sum(rows.values())

    @property
    def wrong(self) -> int:
        """How many rows are wrong."""
        return self.mixed + self.lost + self.doubled

    def report(self) -> str:
        """What was checked, in two lines."""
        return (
            f"{self.queries} queries in parts, {self.rows:,} rows; {self.reloads} reloads of both "
            f"plugins, {_counted(self.kills, 'worker')} killed, {self.overtaken} queries outlived "
            f"their epoch\n{self.wrong} rows of a mix, lost or doubled"
            + (f": {self.mixed}, {self.lost}, {self.doubled}" if self.wrong else "")
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns 0 if no row was wrong, and all changes and the kill took place."""
    options = _options(arguments)
    try:
        import ray
    except ImportError:
        print("this demonstration needs Ray: pip install 'epochal[ray,demo]'", file=sys.stderr)
        return 2
    # Ray runs its workers at niceness 15: on a busy machine, they would be compared with a process
    # that gets most of it.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cut = [options.rows * part // options.parts for part in range(options.parts + 1)]
    checks = Checks(cut)
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    busy = f" (of a machine that had other work: load {load:.1f})" if load > processors / 2 else ""
    try:
        with tempfile.TemporaryDirectory(prefix="epochal-") as name:
            files = write_files(Path(name) / "data", cut)
            _say(f"starting Ray with {_counted(options.workers, 'worker')}")
            ray.init(
                num_cpus=options.workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            try:
                with Runtime(share=Path(name) / "share", drain_timeout=0.0) as rt:
                    swap(rt, 1)
                    _check(rt, files, checks, options.reloads)
                    ratio = measure_ratio(rt, files, options.turns)
            finally:
                ray.shutdown()
                _say("")
    except KeyboardInterrupt:
        print(f"\ninterrupted; checked so far:\n{checks.report()}")
        return 130
    print(checks.report())
    turns = _counted(options.turns, "turn")
    print(f"in parts: {ratio:.2f} times as fast as one process, median of {turns}{busy}")
    if checks.reloads < options.reloads or not checks.kills:
        print("failed: not every change and kill took place", file=sys.stderr)
        return 1
    return int(checks.wrong > 0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo-ray", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, default, text in (
        ("rows", 3_000_000, "rows in all files"),
        ("parts", 8, "files, each of which is one part of a query"),
        ("workers", 2, "Ray's workers"),
        ("reloads", 20, "changes of both plugins"),
        ("turns", 5, "turns of one process and of parts, for the ratio"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default:,})")
    options = parser.parse_args(arguments)
    for name, value in vars(options).items():
        if value < 1:
            parser.error(f"--{name} is at least 1, not {value}")
    if options.parts > options.rows:
        parser.error(f"--parts is at most --rows, {options.rows}, not {options.parts}")
    return options


def write_files(folder: Path, cut: Sequence[int]) -> list[Path]:
    """Repeat the flights, number their rows, and write one file a part."""
    import pyarrow as pa
    from pyarrow import parquet

    from epochal.demo.data import load_flights

    _say("reading the flights")
    flights = load_flights().select(["origin", "distance"])
    flights = pa.concat_tables([flights] * -(-cut[-1] // flights.num_rows))
    folder.mkdir()
    files = [folder / f"{part:04}.parquet" for part in range(len(cut) - 1)]
    for file, start, end in zip(files, cut, cut[1:], strict=False):
        _say(f"writing {end:,} of {cut[-1]:,} rows")
        numbers = pa.array(range(start, end), pa.int64())
        parquet.write_table(flights.slice(start, end - start).append_column("n", numbers), file)
    return files


def swap(rt: Runtime, version: int) -> None:
    """Put a version of both plugins in place, in one change."""
    with rt.change() as change:
        for plugin in _PLUGINS:
            source = _SOURCE.format(plugin=plugin, version=version).encode()
            artifact = Artifact(plugin, {f"{plugin}.py": source})
            if version == 1:
                change.load(artifact)
            else:
                change.reload(plugin, artifact)


def _check(rt: Runtime, files: Sequence[Path], checks: Checks, reloads: int) -> None:
    """Query and check, until all changes are made."""
    over = threading.Event()
    with ThreadPoolExecutor(1, "epochal demo changes") as pool:
        changing = pool.submit(_disturb, rt, checks, reloads, over)
        try:
            is_last = False
            while not is_last:
                is_last = changing.done()
                result = _query(rt, files, checks)
                promised = [result.provenance[plugin][0] for plugin in _PLUGINS]
                checks.overtaken += result.epoch != rt.epoch.id
                checks.add(result.rows(), promised)
        finally:
            over.set()
        changing.result()


def _query(rt: Runtime, files: Sequence[Path], checks: Checks) -> PartsResult:
    from epochal.ray import query

    def progress(done: int, of: int) -> None:
        if done < of and not sys.stderr.isatty():
            return  # a line a query
        _say(
            f"query {checks.queries + 1}: {done} of {of} parts; {checks.reloads} reloads, "
            f"{_counted(checks.kills, 'worker')} killed, {checks.wrong} wrong rows"
        )

    return query(rt, part=_CHECK, files=files, progress=progress)


def _disturb(rt: Runtime, checks: Checks, reloads: int, over: threading.Event) -> None:
    """Replace both plugins again and again; from the middle on, kill a worker, once."""
    while checks.reloads < reloads or not checks.kills:
        if over.wait(_GAP_S):
            return
        if checks.reloads < reloads:
            swap(rt, checks.reloads + 2)
            checks.reloads += 1
        if checks.reloads >= reloads // 2 and not checks.kills:
            checks.kills += _kill_a_worker(rt)


def _kill_a_worker(rt: Runtime) -> bool:
    """Kill one of the processes that hold an epoch of our share."""
    for hold in rt.cluster.holds():
        process = int(hold.worker.rpartition(":")[2])
        if process != os.getpid():
            _say(f"killing worker {process}; Ray says so, too:", stays=True)
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has ended, and its word in the share has not expired
            return True
    return False


def measure_ratio(rt: Runtime, files: Sequence[Path], turns: int, sql: str = MEASURE) -> float:
    """How many times faster the query is in parts than in this process: the median, by turns."""
    from epochal.ray import query
    from epochal.sql import Database

    def in_parts() -> Any:
        return query(rt, merge=sql, files=files).table

    ratios = list[float]()
    with Database(rt) as db:
        db.register("data", files[0].parent)
        in_parts()  # every worker is there, and has the epoch
        for turn in range(turns):
            began = perf_counter()
            one = db.query(sql).to_table()
            between = perf_counter()
            parts = in_parts()
            ended = perf_counter()
            if _flights(one) != _flights(parts):
                raise RuntimeError(f"one process counted {_flights(one)}, parts {_flights(parts)}")
            ratios.append((between - began) / (ended - between))
            _say(
                f"turn {turn + 1} of {turns}: one process {between - began:.2f} s, in parts "
                f"{ended - between:.2f} s"
            )
    return statistics.median(ratios)


def _flights(table: Any) -> dict[str, int]:
    return dict(zip(*(table.column(at).to_pylist() for at in range(2)), strict=True))


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _say(text: str, *, stays: bool = False) -> None:
    """Report progress: over the last line of a terminal, or as a line of its own."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\n" if stays else "", file=sys.stderr, flush=True)
    else:
        print(text, end="\n" if text else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
