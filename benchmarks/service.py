"""The service under load: 64 connections, a small query, quiet and with ten reloads a second."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

from benchmarks.figure import Figure, from_repeats, percentile, sized
from benchmarks.plugin import source
from epochal import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECTIONS = 64
_ROUNDS = sized(7, 1)
_WINDOW_S = float(sized(4, 2))
_RELOADS_PER_S = 10
_TOKEN = "the-admin-token-of-the-benchmark"
_RESTARTS = sized(5, 1)
_PLUGINS = 100


@dataclass
class Window:
    """The clients' measurements over one stretch of time."""

    seconds: float
    times_ms: list[float]
    failures: int

    @property
    def rate(self) -> float:
        """The number of queries a second."""
        return len(self.times_ms) / self.seconds


def measure() -> Iterator[Figure]:
    """Yield queries quiet and under reloads, by turns in one run; then restarts from a store."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "geo.py").write_text(source(300))
        with _served("--plugins", name) as url:
            quiet, busy, reloads = asyncio.run(_by_turns(url))
        yield from _figures(quiet, busy, reloads)
    with TemporaryDirectory() as name:
        yield from_repeats("service: start to ready, 100 plugins stored", _restarts(name), "s", 2.0)


def _figures(quiet: list[Window], busy: list[Window], reloads: list[float]) -> Iterator[Figure]:
    yield from_repeats("service: queries a second, quiet", [window.rate for window in quiet], "/s")
    rates = [b.rate / q.rate for q, b in zip(quiet, busy, strict=True)]
    yield from_repeats("service: while reloading, against quiet", rates, "", 0.95, higher=True)
    p99 = [percentile(window.times_ms, 0.99) for window in quiet]
    yield from_repeats("service: p99, quiet", p99, "ms")
    ratios = [percentile(b.times_ms, 0.99) / q for q, b in zip(p99, busy, strict=True)]
    yield from_repeats("service: p99 while reloading, against quiet", ratios, "", 1.25)
    yield from_repeats("service: reloads a second meanwhile", reloads, "/s")
    failures = sum(window.failures for window in (*quiet, *busy))
    yield Figure("service: queries failed", failures, "", 0.0)


# --- the load ----------------------------------------------------------------------------------


async def _by_turns(url: str) -> tuple[list[Window], list[Window], list[float]]:
    quiet, busy, reloads = [], [], []
    clients = [await _Client.connect(url) for _ in range(_CONNECTIONS)]
    await _window(clients)  # to warm up
    for _ in range(_ROUNDS):
        quiet.append(await _window(clients))
        reloading = asyncio.create_task(asyncio.to_thread(_reload, url))
        busy.append(await _window(clients))
        reloads.append(await reloading / _WINDOW_S)
    for client in clients:
        client.close()
    return quiet, busy, reloads


async def _window(clients: list[_Client]) -> Window:
    for client in clients:
        client.times_ms, client.failures = [], 0
    started = time.perf_counter()
    await asyncio.gather(*[client.query_until(started + _WINDOW_S) for client in clients])
    seconds = time.perf_counter() - started
    times = [taken for client in clients for taken in client.times_ms]
    return Window(seconds, times, sum(client.failures for client in clients))


class _Client:
    """One connection that sends its next request upon each answer, with just enough HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str):
        self.times_ms: list[float] = []
        self.failures = 0
        self._reader, self._writer = reader, writer
        body = json.dumps({"sql": "SELECT geo.double(1.5)"}).encode()
        self._request = (
            f"POST /v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    @classmethod
    async def connect(cls, url: str) -> _Client:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port), parts.netloc)

    async def query_until(self, deadline: float) -> None:
        while (began := time.perf_counter()) < deadline:
            self._writer.write(self._request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0])
            await self._reader.readexactly(length)
            self.times_ms.append((time.perf_counter() - began) * 1000.0)
            self.failures += not head.startswith(b"HTTP/1.1 200")

    def close(self) -> None:
        self._writer.close()


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


# --- the service -------------------------------------------------------------------------------


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
