"""A service on a free port of loopback, which stops with its test."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from epochal import Runtime
from epochal.jobs import Jobs, Streams
from epochal.kinds import scalar
from epochal.server import Access, ServiceLimits, ServiceState
from epochal.server.security import authorities_of
from epochal.server.serve import end, listen, serve, url_of
from epochal.sql import Database

ADMIN = "the-admin-token-of-the-tests"
QUERY = "the-query-token-of-the-tests"

GEO = """\
# /// plugin
# id = "geo"
# version = "{version}"
# ///
import threading
import time
from epochal.kinds import scalar

INSIDE, GO_ON = threading.Event(), threading.Event()

@scalar
def version(x: int) -> str:
    return "{version}"

@scalar
def slow(x: int) -> int:
    "Waits for GO_ON, ten seconds at most."
    INSIDE.set()
    GO_ON.wait(10)
    return x

@scalar
def fails(x: int) -> int:
    raise ValueError("not that one")
"""


class Served:
    """A running service, and its clients.

    Attributes:
        url: its address.
        address: the same for a socket.
        http: a client without a token.
        admin: a client with the admin token.
        service: the state of the service.
    """

    def __init__(self, runtime, limits, *, port=0, query_token=None, names=(), root_path=""):
        self.service = ServiceState(
            runtime, Database(runtime), limits=limits, jobs=Jobs(runtime), streams=Streams(runtime)
        )
        sock = listen("127.0.0.1", port)
        self.url = url_of(sock)
        self.address = sock.getsockname()
        self.access = Access(
            authorities=authorities_of(sock, names),
            admin_token=ADMIN,
            query_token=query_token,
            root_path=root_path,
        )
        self.ended = None
        self._loop = None
        self._task = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sock, ready), name="the service")
        self._thread.start()
        assert ready.wait(20)
        self.http = httpx.Client(base_url=self.url, timeout=30)
        authorized = {"authorization": f"Bearer {ADMIN}"}
        self.admin = httpx.Client(base_url=self.url, headers=authorized, timeout=30)

    def _run(self, sock, ready):
        async def main():
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            await serve(self.service, self.access, sock, on_ready=ready.set)

        with sock:
            with suppress(asyncio.CancelledError):
                asyncio.run(main())
            self.ended = end(self.service)

    def query(self, sql, **more):
        """The answer to a query."""
        return self.http.post("/v1/query", json={"sql": sql, **more})

    def put(self, plugin, content, **options):
        """Load or reload a plugin."""
        return self.admin.put(f"/v1/plugins/{plugin}", content=content, **options)

    def put_geo(self, version, **options):
        return self.put("geo", GEO.format(version=version), **options)

    def events(self):
        """The events that the active generation's `slow` sets, and waits for."""
        slow = self.service.runtime.epoch.export(scalar, "geo.slow").target
        return slow.__globals__["INSIDE"], slow.__globals__["GO_ON"]

    def stop(self):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.http.close()
        self.admin.close()


@pytest.fixture
def start_service(tmp_path):
    """Start a service; each is stopped at the end."""
    started = []

    def start_service(*, store=None, limits=None, **options):
        limits = limits or ServiceLimits(stop_s=5.0)
        served = Served(Runtime(store=store, drain_timeout=10.0), limits, **options)
        started.append(served)
        return served

    yield start_service
    for served in started:
        if served.ended is None:
            served.stop()


@pytest.fixture
def served(start_service):
    """A service with the plugin geo 1.0."""
    served = start_service()
    assert served.put_geo("1.0").status_code == 201
    return served


@pytest.fixture
def people(tmp_path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("name,age\nAda,36\nGrace,45\nLinus,\n")
    return path
