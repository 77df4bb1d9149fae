"""SQL as an attacker writes it: generated texts against a service, which stays within a gigabyte.

    python -m tests.server.sql_texts --texts 1000 --seed 1

Each text is sent without a token, with a time limit of five seconds, while another client asks
`SELECT 1` over and over. The service must not die, hang past the limit, or fail to answer; the
last line has the counts, and the worst times of both clients.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from tests.conftest import free_port

LIMIT_S = 5.0
MEMORY = 1 << 30
PLUGIN = """\
# /// plugin
# id = "geo"
# version = "1.0"
# ///
from epochal.kinds import scalar

@scalar
def double(x: float) -> float:
    return 2 * x
"""
UNARY = ["abs({})", "-({})", "({}) + 1", "geo.double({})", "round({}, 2)", "sqrt(abs({}))"]
DOUBLED = [
    "nvl({}, b)",
    "coalesce({}, a, b)",
    "nullif({}, 3)",
    "nvl2({}, a, b)",
    "greatest({}, b)",
    "(CASE WHEN {} BETWEEN a AND b THEN a ELSE b END)",
    "(CASE {} WHEN 1 THEN a WHEN 2 THEN b ELSE a + b END)",
    "(CASE WHEN {} IN (1, 2, 3) THEN a ELSE b END)",
    "(({}) IS DISTINCT FROM b)::int",
    "((({})::varchar) LIKE '%1%')::int",
    "((({})::varchar) ~ '(1|2)+')::int",
    "length(({})::varchar)",
    "date_part('year', to_timestamp_seconds({}))",
]
PATTERNS = [
    "(a|b)*c",
    "a{50}{20}",
    "(.*)*(.*)*x",
    "[^x]{1,1000}",
    "((((a?)?)?)?)*",
    "\\\\d+|\\\\w+",
]
GAPS = [" ", "\t\n", "/**/", "/* a */ ", "--\n", "/*/**/*/", "/*", "*/", "$a$ ", "$1 ", "''", "e'"]
GAPS += ['"', "'", "`", ". ", "a.", "a/**/.", "a/* */ ", "a ", "1.", "\\", "{", ";", "\u00a0", "\0"]


class Texts:
    """Generates texts of a grammar.

    Args:
        seed: the same texts for the same seed.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self) -> str:
        """One text."""
        forms = [self._nested, self._chain, self._tables, self._joins, self._windows]
        forms += [self._series, self._literals, self._patterns, self._grouped, self._sets]
        forms += [self._gaps]
        return self._random.choice(forms)()

    def _nested(self) -> str:
        return f"SELECT {self._expression(self._upto(40))} FROM t"

    def _expression(self, depth: int) -> str:
        text, templates = "a", self._random.choice([UNARY, DOUBLED, UNARY + DOUBLED])
        only = self._random.choice([None, self._random.choice(templates)])
        for _ in range(depth):
            text = (only or self._random.choice(templates)).format(text)
        return text

    def _chain(self) -> str:
        link = self._random.choice([" + a", " AND a > 1", " OR b < 2", " || 'x'", " IS NULL"])
        link = self._random.choice([link, " BETWEEN true AND true", " = (a > 1)"])
        return f"SELECT (a > 1){link * self._upto(600)} FROM t"

    def _tables(self) -> str:
        step = self._random.choice(
            [
                "SELECT p.x FROM LAST p, LAST q",
                "SELECT x FROM LAST UNION ALL SELECT x FROM LAST",
                "SELECT x * x + x AS x FROM LAST",
                "SELECT x FROM LAST WHERE x IN (SELECT x FROM LAST)",
                "SELECT sum(x) OVER (ORDER BY x) AS x FROM LAST",
                "SELECT DISTINCT x + 1 AS x FROM LAST",
            ]
        )
        count = self._upto(25)
        tables = ["c0 AS (SELECT a AS x FROM t)"]
        tables += [f"c{n} AS ({step.replace('LAST', f'c{n - 1}')})" for n in range(1, count + 1)]
        return f"WITH {', '.join(tables)} SELECT count(*) FROM c{count} WHERE x > 3"

    def _joins(self) -> str:
        kind = self._random.choice(["JOIN", "LEFT JOIN", "FULL JOIN", "CROSS JOIN"])
        on = "" if kind == "CROSS JOIN" else " ON t{0}.a = t{1}.a"
        count = self._upto(30)
        joined = "".join(f" {kind} t t{n}" + on.format(n, n - 1) for n in range(1, count + 1))
        return f"SELECT count(*) FROM t t0{joined}"

    def _windows(self) -> str:
        columns = [
            f"sum({self._expression(self._upto(4))}) OVER (PARTITION BY a ORDER BY b + {n})"
            for n in range(self._upto(40))
        ]
        return f"SELECT {', '.join(columns)} FROM t"

    def _series(self) -> str:
        rows, more = 10 ** self._random.randint(1, 12), 10 ** self._random.randint(1, 7)
        columns = ["count(*)", "sum(a.value)", "max(a.value % 7)", "count(DISTINCT a.value)"]
        other = self._random.choice(["", f", generate_series(1, {more}) b"])
        column = self._random.choice(columns)
        return f"SELECT {column} FROM generate_series(1, {rows}) a{other}"

    def _literals(self) -> str:
        size = 10 ** self._random.randint(1, 5)
        made = [
            f"SELECT length('{'x' * size}')",
            f"SELECT a IN ({', '.join(map(str, range(size)))}) FROM t",
            f"SELECT [{', '.join(map(str, range(size)))}]",
            f"SELECT array_length(range(0, {size * 100_000}))",
            f"SELECT length(repeat('x', {size * 100_000}))",
            f"SELECT 1{'0' * size}",
            f"SELECT {'1' * min(size, 300)}.{'1' * size}",
            f'SELECT 1 AS "{"x" * size}"',
        ]
        return self._random.choice(made)

    def _patterns(self) -> str:
        pattern = self._random.choice(PATTERNS) * self._upto(10)
        return f"SELECT regexp_like(repeat('ab', {self._upto(2000)}), '{pattern}') FROM t"

    def _grouped(self) -> str:
        form = self._random.choice(["CUBE", "ROLLUP", "GROUPING SETS"])
        items = ", ".join(f"(a + {n})" for n in range(self._upto(20)))
        return f"SELECT count(*) FROM t GROUP BY {form} ({items})"

    def _sets(self) -> str:
        word = self._random.choice([" UNION ALL ", " UNION ", " INTERSECT ", " EXCEPT "])
        return word.join(["SELECT a FROM t"] * self._upto(200))

    def _gaps(self) -> str:
        """Comments, blanks or openings, a few or ten thousand, between two words or all."""
        words = ["SELECT", "geo.double", "(t", ".", "a)", ",", "b", "FROM", "t", "WHERE", "a"]
        gap = self._random.choice(GAPS) * self._upto(10 ** self._random.randint(0, 4))
        if self._random.random() < 0.5:
            return gap.join(words) if len(gap) < 10_000 else f" {gap} ".join(words[:3])
        words.insert(self._upto(len(words)), gap)
        return " ".join(words)

    def _upto(self, most: int) -> int:
        return self._random.randint(1, most)


class Attacked:
    """A service in a process of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "plugins").mkdir()
        (folder / "plugins/geo.py").write_text(PLUGIN)
        (folder / "t.csv").write_text("a,b\n" + "".join(f"{n},{n % 7}\n" for n in range(100)))
        port = free_port()
        command = [sys.executable, "-m", "epochal.cli", "serve", "--plugins", "plugins"]
        command += ["--port", str(port), "-t", "t=t.csv", "--timeout", f"{LIMIT_S:g}"]
        command += ["--query-memory", "64", "--memory", "600", "--log-level", "error"]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(1200):
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)

    @property
    def peak_bytes(self) -> int:
        """The most memory that it has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def ask(self, sql: str) -> tuple[int, float]:
        """The status of an answer, and the seconds that it took."""
        started = time.monotonic()
        answer = httpx.post(f"{self.url}/v1/query", json={"sql": sql}, timeout=60)
        return answer.status_code, time.monotonic() - started

    def end(self) -> str:
        """How it ended, or that it runs."""
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return "it still runs"
        assert self.process.stderr is not None
        return f"exit {code}, {self.process.stderr.read()[-500:]}"

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


class Report:
    """What was seen.

    Attributes:
        statuses: of the generated texts' answers.
        slowest: seconds of the slowest, and its text.
        easy: statuses of `SELECT 1` meanwhile.
        easy_slowest_s: seconds of the slowest of them.
        peak_bytes: the most memory that the service has had.
    """

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.slowest = (0.0, "")
        self.easy: Counter[int] = Counter()
        self.easy_slowest_s = 0.0
        self.peak_bytes = 0

    def __str__(self) -> str:
        statuses = ", ".join(f"{n} x {status}" for status, n in sorted(self.statuses.items()))
        easy = ", ".join(f"{n} x {status}" for status, n in sorted(self.easy.items()))
        return (
            f"texts: {statuses}; the slowest {self.slowest[0]:.1f} s\n"
            f"SELECT 1 meanwhile: {easy}; the slowest {self.easy_slowest_s:.1f} s\n"
            f"memory: {self.peak_bytes >> 20} MiB at most"
        )


def attack(seed: int, texts: int) -> Report:
    """Send generated texts to a service, one after the other.

    Raises:
        AssertionError: the service died, or gave an answer that it must not give.
    """
    report, over = Report(), threading.Event()
    with TemporaryDirectory() as folder:
        attacked = Attacked(Path(folder))

        def ask_easily() -> None:
            while not over.wait(0.2):
                try:
                    status, took_s = attacked.ask("SELECT 1")
                except httpx.TransportError:  # it died, which the other client reports
                    return
                report.easy[status] += 1
                report.easy_slowest_s = max(report.easy_slowest_s, took_s)

        easy = threading.Thread(target=ask_easily, daemon=True)
        easy.start()
        try:
            made = Texts(seed)
            for _ in range(texts):
                sql = made.text()
                try:
                    status, took_s = attacked.ask(sql)
                except httpx.TransportError as error:
                    raise AssertionError(f"{error!r}: {attacked.end()}: {sql[:2000]}") from None
                report.statuses[status] += 1
                report.slowest = max(report.slowest, (took_s, sql))
                report.peak_bytes = attacked.peak_bytes
                assert status in (200, 400, 503, 504), (status, sql[:2000])
                assert report.peak_bytes < MEMORY, (report.peak_bytes, sql[:2000])
            assert attacked.ask("SELECT 1")[0] == 200
        finally:
            over.set()
            easy.join(70)
            attacked.stop()
    return report


def main() -> None:
    """Attack a service for as long as is asked for."""
    parser = argparse.ArgumentParser(prog="sql_texts", description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    report = attack(options.seed, options.texts)
    print(report)
    print(report.slowest[1][:500])


if __name__ == "__main__":
    main()
