"""The service under load, beside a plain service and Datasette, by turns in one run.

64 connections send a small query upon each answer, from a process of their own (`http_load`): to
`epochal serve` quiet, to the plain service (`plain_service`: Starlette, DataFusion and a pool of
two threads), to Datasette where it is installed (the same function on SQLite), and to
`epochal serve` while it reloads the query's plugin ten times a second. Then one connection alone,
and restarts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

from benchmarks.figure import Figure, from_repeats, ratios, sized
from benchmarks.http_load import Target, load_generator
from benchmarks.plugin import source
from epochal import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.http_load import Load, Window

_CONNECTIONS = 64
_ROUNDS = sized(11, 2)
_WINDOW_S = float(sized(3, 1))
_ALONE_S = 1.0
_RELOADS_PER_S = 10
_TOKEN = "the-admin-token-of-the-benchmark"
_RESTARTS = sized(5, 1)
_PLUGINS = 100
_STARTS_S = 30.0

_BODY = json.dumps({"sql": "SELECT geo.double(1.5)"})
_WITH_PARAMETER = json.dumps({"sql": "SELECT geo.double($1)", "params": [1.5]})
_ARROW = "application/vnd.apache.arrow.stream"
_DATASETTE_PLUGIN = """\
from datasette import hookimpl

@hookimpl
def prepare_connection(conn):
    conn.create_function("geo_double", 1, lambda x: x + x)
"""


def measure() -> Iterator[Figure]:
    """Yield the service against its peers and under reloads, by turns; then restarts."""
    with ExitStack() as stack:
        name = stack.enter_context(TemporaryDirectory())
        (Path(name) / "geo.py").write_text(source(300))
        url = stack.enter_context(_served("--plugins", name))
        peers = {"plain": Target(stack.enter_context(_plain()), "/v1/query", _BODY)}
        if importlib.util.find_spec("datasette") is not None:
            target = f"/_memory.json?sql={quote('SELECT geo_double(1.5)')}"
            peers["Datasette"] = Target(stack.enter_context(_datasette()), target)
        load = stack.enter_context(load_generator())
        ours = Target(url, "/v1/query", _BODY)
        yield from _under_load(load, ours, peers)
        yield from _alone(load, ours, peers["plain"])
    with TemporaryDirectory() as name:
        taken = _restarts(name)
    yield from_repeats("service: start to ready, 100 plugins stored", taken, "s", 2.0)


def _under_load(load: Load, ours: Target, peers: dict[str, Target]) -> Iterator[Figure]:
    def window(target: Target) -> Window:
        return load.window(target, connections=_CONNECTIONS, seconds=_WINDOW_S)

    for target in (ours, *peers.values()):
        window(target)  # to warm up
    quiet: list[Window] = []
    busy: list[Window] = []
    theirs: dict[str, list[Window]] = {name: [] for name in peers}
    reloads: list[float] = []
    for _ in range(_ROUNDS):
        for name, target in peers.items():
            theirs[name].append(window(target))
        quiet.append(window(ours))
        with _reloading(ours.url, reloads):
            busy.append(window(ours))
    rate, p99 = [w.rate for w in quiet], [w.p99_ms for w in quiet]
    yield from_repeats("service: queries a second", rate, "/s")
    yield from_repeats("service: p99", p99, "ms")
    for name, windows in theirs.items():
        is_plain = name == "plain"
        yield from_repeats(f"{name}: queries a second", [w.rate for w in windows], "/s")
        yield from_repeats(f"{name}: p99", [w.p99_ms for w in windows], "ms")
        shares = ratios(rate, [w.rate for w in windows])
        goal = 0.95 if is_plain else None
        yield from_repeats(f"service: throughput / {name}", shares, "x", goal, higher=True)
        shares = ratios(p99, [w.p99_ms for w in windows])
        yield from_repeats(f"service: p99 / {name}", shares, "x", 1.1 if is_plain else None)
    shares = ratios([w.rate for w in busy], rate)
    yield from_repeats(
        "service: throughput while reloading / quiet", shares, "x", 0.95, higher=True
    )
    shares = ratios([w.p99_ms for w in busy], p99)
    yield from_repeats("service: p99 while reloading / quiet", shares, "x", 1.25)
    yield from_repeats("service: reloads a second meanwhile", reloads, "/s")
    failures = sum(w.failures for w in (*quiet, *busy))
    yield Figure("service: queries failed", failures, "", 0.0)


def _alone(load: Load, ours: Target, plain: Target) -> Iterator[Figure]:
    """Yield what one query takes that no other query runs beside."""
    targets = {
        "ours": ours,
        "plain": plain,
        "ours, a parameter": replace(ours, body=_WITH_PARAMETER),
        "plain, a parameter": replace(plain, body=_WITH_PARAMETER),
        "ours, Arrow": replace(ours, accept=_ARROW),
    }
    times: dict[str, list[float]] = {name: [] for name in targets}
    failures = 0
    for _ in range(_ROUNDS):
        for name, target in targets.items():
            window = load.window(target, connections=1, seconds=_ALONE_S)
            times[name].append(statistics.median(window.times_ms))
            failures += window.failures
    yield from_repeats("service: one client, a query", times["ours"], "ms")
    for name, left, right in (
        ("a query / plain", "ours", "plain"),
        ("a query with a parameter / plain", "ours, a parameter", "plain, a parameter"),
        ("a query as Arrow / as JSON", "ours, Arrow", "ours"),
    ):
        shares = ratios(times[left], times[right])
        yield from_repeats(f"service: one client, {name}", shares, "x")
    yield Figure("service: queries of one client failed", failures, "", 0.0)


@contextmanager
def _reloading(url: str, rates: list[float]) -> Iterator[None]:
    """Reload at a steady rate for one window; adds the number of reloads a second."""
    thread = Thread(target=lambda: rates.append(_reload(url) / _WINDOW_S))
    thread.start()
    yield
    thread.join()


def _reload(url: str) -> int:
    """Reload at a steady rate for one window; returns the number of reloads."""
    count, started = 0, time.perf_counter()
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    connection = HTTPConnection(urlsplit(url).netloc)
    while (now := time.perf_counter()) < started + _WINDOW_S - 0.05:
        connection.request("POST", "/v1/plugins/geo/reload?drain_timeout=0", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        count += 1
        time.sleep(max(0.0, started + count / _RELOADS_PER_S - now))
    connection.close()
    return count


# --- the services ------------------------------------------------------------------------------


@contextmanager
def _plain() -> Iterator[str]:
    port = _free_port()
    with _process("-m", "benchmarks.plain_service", str(port)):
        yield _started(port)


@contextmanager
def _datasette() -> Iterator[str]:
    port = _free_port()
    with TemporaryDirectory() as folder:
        Path(folder, "geo.py").write_text(_DATASETTE_PLUGIN)
        command = ("-m", "datasette", "--memory", "--port", str(port), "--plugins-dir", folder)
        with _process(*command):
            yield _started(port)


@contextmanager
def _process(*arguments: str) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, *arguments], stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _started(port: int) -> str:
    """The address of a service, once it answers."""
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _STARTS_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            try:
                urlopen(f"{url}/").close()
            except HTTPError:
                return url
            return url
        time.sleep(0.05)
    raise TimeoutError(f"no service on port {port}")


@contextmanager
def _served(*arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", "epochal.cli", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "EPOCHAL_ADMIN_TOKEN": _TOKEN}
    with subprocess.Popen(
        [*command, "--log-level", "error"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def _restarts(folder: str) -> list[float]:
    """Seconds from the start of the process until it is ready, for each restart."""
    with Runtime(store=f"{folder}/store") as rt, rt.change() as change:
        for number in range(_PLUGINS):
            path = Path(folder, f"plugin{number}.py")
            path.write_text(source(300).replace('"geo"', f'"plugin{number}"'))
            change.load(path)
    taken = []
    for _ in range(_RESTARTS):
        started = time.perf_counter()
        with _served("--store", f"{folder}/store") as url:
            urlopen(f"{url}/readyz").read()
            taken.append(time.perf_counter() - started)
    return taken
