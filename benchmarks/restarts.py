"""A reload in the process, compared with gunicorn's restart of its workers on HUP.

The same application runs behind the same server classes under the same load. One is changed by HUP
with uvicorn workers, the other by a reload of a plugin. The benchmark counts failed requests, and
measures the time until the first answer of the new code.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, percentile, sized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHANGES = sized(5, 2)
_CONNECTIONS = 16
_QUIET_S = float(sized(3, 1))
_LONGEST_S = 20.0

_RULE = """\
# /// plugin
# id = "rule"
# version = "{n}"
# ///
from epochal.kinds import scalar

@scalar
def version(x: int) -> int:
    return {n}
"""
_PLAIN = """\
from rule import version

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = str(version(1)).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
_OURS = """\
import os, signal
from epochal import Runtime
from epochal.asgi import EpochMiddleware
from epochal.kinds import scalar
from epochal.watch import Watcher

rt = Runtime()
rt.load("rule.py")
watcher = Watcher(rt, ".", settle_s=0.05)

async def plain(scope, receive, send):
    body = str(scope["state"]["epoch"][scalar]["rule.version"](1)).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

app = EpochMiddleware(plain, rt)
"""


def measure() -> Iterator[Figure]:
    """Yield the figures of both ways in sequence; client and server share the processors."""
    for name, change in (("gunicorn HUP", _hup), ("a reload", _saved)):
        with TemporaryDirectory() as folder, _served(Path(folder), name) as (port, process):
            failed, taken, waits = asyncio.run(_load(port, Path(folder), process, change))
        yield Figure(f"{name}: requests", len(taken), "")
        goal = 0.0 if name == "a reload" else None
        yield Figure(f"{name}: failed in {_CHANGES} changes", failed, "", goal)
        yield from_repeats(f"{name}: until new code answers", waits, "s")
        yield Figure(f"{name}: request p99 meanwhile", percentile(taken, 0.99) * 1e3, "ms")
        yield Figure(f"{name}: longest request", max(taken) * 1e3, "ms")


def _hup(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGHUP)


def _saved(process: subprocess.Popen[bytes]) -> None:
    """Do nothing: the watcher sees the saved file."""


async def _load(
    port: int,
    folder: Path,
    process: subprocess.Popen[bytes],
    change: Callable[[subprocess.Popen[bytes]], None],
) -> tuple[int, list[float], list[float]]:
    taken: list[float] = []
    failed = 0
    newest = 0
    ended = asyncio.Event()

    async def send_requests() -> None:
        nonlocal failed, newest
        reader = writer = None
        while not ended.is_set():
            started = time.perf_counter()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert reader is not None
                writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0])
                newest = max(newest, int(await reader.readexactly(size)))
                if b"connection: close" in head.lower():
                    writer.close()
                    writer = None
            except (OSError, EOFError, ValueError):
                failed += 1
                writer = None
                await asyncio.sleep(0.01)
            taken.append(time.perf_counter() - started)
        if writer is not None:
            writer.close()

    clients = [asyncio.create_task(send_requests()) for _ in range(_CONNECTIONS)]
    await asyncio.sleep(_QUIET_S)
    waits = []
    for number in range(2, _CHANGES + 2):
        (folder / "rule.py").write_text(_RULE.format(n=number))
        started = time.perf_counter()
        change(process)
        while newest < number and time.perf_counter() < started + _LONGEST_S:
            await asyncio.sleep(0.002)
        assert newest >= number, "no answer came from the new code"
        waits.append(time.perf_counter() - started)
        await asyncio.sleep(_QUIET_S)
    ended.set()
    await asyncio.gather(*clients)
    return failed, taken, waits


@contextmanager
def _served(folder: Path, name: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    (folder / "rule.py").write_text(_RULE.format(n=1))
    (folder / "main.py").write_text(_PLAIN if name == "gunicorn HUP" else _OURS)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    command = [sys.executable, "-m"]
    if name == "gunicorn HUP":
        command += ["gunicorn", "main:app", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
        command += ["--worker-class", "uvicorn_worker.UvicornWorker", "--log-level", "critical"]
    else:
        command += ["uvicorn", "main:app", "--port", str(port), "--log-level", "critical"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        try:
            _await_port(port)
            yield port, process
        finally:
            process.terminate()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the server did not start")
