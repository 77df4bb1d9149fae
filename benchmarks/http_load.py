"""A load generator in a process of its own: connections that each send upon their last answer.

It reads a window a line, as JSON (the fields of a `Target`, `connections`, `seconds`), and
answers each with a line: how long it took, the milliseconds of each request, and how many failed.
It parses just enough of HTTP to find the end of an answer.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.figure import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Target:
    """A service and the request that it is sent.

    Attributes:
        url: the service's address.
        target: the path, with the options.
        body: a JSON body, which is sent with POST; none for a GET.
        accept: the media type of the answer; empty for any.
    """

    url: str
    target: str
    body: str = ""
    accept: str = ""

    def request(self) -> bytes:
        """The request as it is sent."""
        head = f"{'POST' if self.body else 'GET'} {self.target} HTTP/1.1\r\n"
        head += f"Host: {urlsplit(self.url).netloc}\r\n"
        if self.accept:
            head += f"Accept: {self.accept}\r\n"
        if self.body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        return f"{head}\r\n{self.body}".encode()


@dataclass(frozen=True, slots=True)
class Window:
    """The clients' measurements over one stretch of time."""

    seconds: float
    times_ms: list[float]
    failures: int

    @property
    def rate(self) -> float:
        """The number of answers a second."""
        return len(self.times_ms) / self.seconds

    @property
    def p99_ms(self) -> float:
        """Milliseconds that 99 of 100 requests did not exceed."""
        return percentile(self.times_ms, 0.99)


class Load:
    """The load generator's process; made by `load_generator`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def window(self, target: Target, *, connections: int, seconds: float) -> Window:
        """Load a service for a while."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {**asdict(target), "connections": connections, "seconds": seconds}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Window(**json.loads(self._process.stdout.readline()))


@contextmanager
def load_generator() -> Iterator[Load]:
    """Run the load generator for the time of a block."""
    command = [sys.executable, "-m", "benchmarks.http_load"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Load(process)
        assert process.stdin is not None
        process.stdin.close()


# --- inside its process --------------------------------------------------------------------------


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, until: float) -> None:
        self.times_ms: list[float] = []
        self.failures = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._until = request, until
        self._began = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or not _is_whole(head.lower(), body):
            return
        now = time.perf_counter()
        self.times_ms.append((now - self._began) * 1000.0)
        self.failures += not head.startswith(b"HTTP/1.1 200")
        self._received = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failures += exc is not None or time.perf_counter() < self._until
        self.done.set_result(None)

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)


def _is_whole(head: bytes, body: bytes) -> bool:
    _, is_sized, rest = head.partition(b"content-length: ")
    if is_sized:
        return len(body) >= int(rest.split(b"\r", 1)[0])
    return body.endswith(b"0\r\n\r\n")  # in chunks


async def _load(order: dict[str, object]) -> Window:
    target = Target(**{f.name: str(order[f.name]) for f in fields(Target)})
    parts, loop = urlsplit(target.url), asyncio.get_running_loop()
    request, started = target.request(), time.perf_counter()
    until = started + float(str(order["seconds"]))
    made = [
        await loop.create_connection(lambda: _Client(request, until), parts.hostname, parts.port)
        for _ in range(int(str(order["connections"])))
    ]
    clients = [client for _, client in made]
    await asyncio.gather(*[client.done for client in clients])
    seconds = time.perf_counter() - started
    times = [taken for client in clients for taken in client.times_ms]
    return Window(seconds, times, sum(client.failures for client in clients))


def _main() -> None:
    for line in sys.stdin:
        print(json.dumps(asdict(asyncio.run(_load(json.loads(line))))), flush=True)


if __name__ == "__main__":
    _main()
