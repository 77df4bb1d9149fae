"""One operation is one snapshot, in every host of its runtime that its code uses."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pluggy
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from epochal import Runtime
from epochal.artifact import Artifact
from epochal.asgi import EpochMiddleware
from epochal.errors import OperationEndedError
from epochal.jobs import Jobs
from epochal.kinds import scalar
from epochal.pluggy import PluginManager
from epochal.sql import Database

LIMIT_S = 20.0
HOSTS = {}  # plugins' functions call these: name -> function

SOURCE = """\
# /// plugin
# id = "geo"
# version = "{n}"
# ///
import pluggy
from collections.abc import Iterator
from typing import NamedTuple
from epochal.kinds import job, scalar, table_function
from tests.integration.test_one_snapshot import HOSTS

hookimpl = pluggy.HookimplMarker("pages")

@scalar
def f(x: int) -> int: return {n}

@scalar
def asks_host(x: int) -> int: return HOSTS["answer"]()

class Row(NamedTuple):
    n: int

@table_function
def rows(count: int) -> Iterator[Row]:
    for _ in range(count):
        yield Row({n})

@hookimpl
def page(x): return {n}

@job(every="1d")
def nightly(): HOSTS["nightly"]()

def init(ctx): HOSTS["init"]()
"""


class Specs:
    @pluggy.HookspecMarker("pages")
    def page(self, x): ...


class Host:
    """Every host of one runtime, and its one plugin in version `n`."""

    def __init__(self):
        HOSTS.update(init=lambda: None, nightly=lambda: None, answer=lambda: 0)
        self.rt = Runtime(drain_timeout=0.0)
        self.n = 0
        self.pm = PluginManager("pages", self.rt)
        self.pm.add_hookspecs(Specs)
        self.db = Database(self.rt)
        self.bump()

    def bump(self):
        self.n += 1
        artifact = Artifact("geo", {"geo.py": SOURCE.format(n=self.n).encode()})
        with self.rt.change() as change:
            change.put(artifact)

    def sql(self, text="SELECT geo.f(1) AS n"):
        with self.db.query(text) as result:
            return [row["n"] for batch in result for row in batch.to_pylist()]

    async def asql(self):
        async with await self.db.aquery("SELECT geo.f(1) AS n") as result:
            return [row["n"] async for batch in result for row in batch.to_pylist()]

    def versions(self):
        """The version of each way in which the caller's code reaches the plugin."""
        return [
            *self.sql(),
            *self.sql("SELECT n FROM geo.rows(1)"),
            *[row["n"] for batch in self.prepared() for row in batch.to_pylist()],
            *self.pm.hook.page(x=0),
            *self.pm.hook.page.call_extra([], {"x": 0}),
            self.pm.get_plugin("geo").page(0),
            self.rt.snapshot()[scalar]["geo.f"](0),
        ]

    def prepared(self):
        return self.db.prepare("SELECT geo.f(1) AS n").execute()

    def agree(self):
        """The one version that all ways lead to."""
        (version,) = set(self.versions())
        return version

    def close(self):
        self.db.close()
        self.rt.close(drain_timeout=LIMIT_S)


@pytest.fixture
def host():
    host = Host()
    yield host
    host.close()


def test_every_host_works_in_the_operations_epoch(host):
    with host.rt.operation("request") as op:
        host.bump()
        assert op[scalar]["geo.f"](0) == host.agree() == 1
        host.bump()
        assert host.agree() == 1
        assert host.rt.epoch[scalar]["geo.f"](0) == 3
        with host.rt.operation("part"):
            assert host.agree() == 1
        with host.rt.operation("anew", epoch=host.rt.epoch):
            assert host.agree() == 3
        assert host.agree() == 1
    assert host.agree() == 3


def test_tasks_and_threads_of_an_operation_work_in_its_epoch(host):
    async def main():
        with host.rt.operation("request") as op:
            await asyncio.to_thread(host.bump)
            ways = [asyncio.create_task(host.asql()) for _ in range(3)]
            loop = asyncio.get_running_loop()
            return [
                *await asyncio.gather(*ways),
                await host.asql(),
                [await asyncio.to_thread(host.agree)],
                [await loop.run_in_executor(None, op.run, host.agree)],
            ]

    assert asyncio.run(main()) == [[1]] * 6
    with host.rt.operation("request") as op, ThreadPoolExecutor(2) as pool:
        host.bump()
        assert [*pool.map(lambda _: op.run(host.agree), range(4))] == [2] * 4
        assert pool.submit(host.agree).result(LIMIT_S) == 3


def test_a_query_streams_on_in_its_epoch_after_its_operation(host):
    with host.rt.operation("request"):
        result = host.db.query("SELECT geo.f(1) AS n")
    host.bump()
    assert [row["n"] for batch in result for row in batch.to_pylist()] == [1]


MANY = "SELECT DISTINCT geo.asks_host(value) AS n FROM generate_series(1, 9000)"


def test_a_function_that_a_query_calls_is_part_of_the_operation(host):
    HOSTS["answer"] = lambda: host.pm.hook.page(x=0)[0]
    with host.rt.operation("request"):
        host.bump()
        assert host.sql("SELECT geo.asks_host(1) AS n") == [1]
        assert host.sql(MANY) == [1], "called on the engine's own threads"
        assert asyncio.run(_first_of(host)) == 1
    assert host.sql("SELECT geo.asks_host(1) AS n") == [2]


async def _first_of(host):
    async with await host.db.aquery("SELECT geo.asks_host(1) AS n") as result:
        (version,) = [row["n"] async for batch in result for row in batch.to_pylist()]
    return version


@pytest.mark.parametrize("end", ["ended", "narrowed"])
def test_work_in_an_ended_or_narrowed_operation_is_an_error(host, end):
    ways = [
        host.sql,
        host.db.functions,
        lambda: host.db.tables,
        lambda: asyncio.run(host.asql()),
        lambda: host.pm.hook.page(x=0),
        lambda: host.pm.get_plugins(),
        host.rt.snapshot,
    ]
    with host.rt.operation("the request") as op:
        hook = host.pm.hook.page
        _ = op.end() if end == "ended" else op.narrow(["geo"])
        for way in ways:
            with pytest.raises(OperationEndedError, match="'the request' has ended or let"):
                way()
        with pytest.raises(OperationEndedError):
            hook(x=0)
        host.bump()
        with host.rt.operation("the next"):
            assert host.agree() == 2
    assert host.agree() == 2


def test_a_task_that_outlives_its_operation_needs_one_of_its_own(host):
    async def main():
        go_on = asyncio.Event()

        async def later():
            await go_on.wait()
            with pytest.raises(OperationEndedError, match="begin a new operation"):
                host.agree()
            with host.rt.operation("later"):
                return host.agree()

        with host.rt.operation("request"):
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        await asyncio.to_thread(host.bump)
        go_on.set()
        return await task

    assert asyncio.run(main()) == 2


def test_two_runtimes_in_one_block_keep_their_own_epochs(host):
    other = Host()
    try:
        with host.rt.operation("one"):
            other.bump()
            assert other.agree() == 2
            with other.rt.operation("two"):
                host.bump()
                other.bump()
                assert (host.agree(), other.agree()) == (1, 2)
            assert (host.agree(), other.agree()) == (1, 3)
    finally:
        other.close()


def test_interleaved_generators_each_see_one_version(host):
    def stream():
        with host.rt.operation("stream") as op:
            for _ in range(3):
                yield op[scalar]["geo.f"](0), host.agree()

    first = stream()
    assert next(first) == (1, 1)
    host.bump()
    second = stream()
    assert [next(second), next(first), next(second)] == [(2, 2), (1, 1), (2, 2)]
    host.bump()
    assert host.agree() == 3
    first.close()
    assert (next(second), host.agree()) == ((2, 2), 3)
    second.close()


def test_a_change_without_a_limit_does_not_wait_for_its_callers_operation(host):
    with Runtime(drain_timeout=None) as rt:
        rt.load(Artifact("geo", {"geo.py": SOURCE.format(n=1).encode()}))
        with rt.operation("request") as op:
            cut = rt.reload("geo", Artifact("geo", {"geo.py": SOURCE.format(n=2).encode()}))
            assert not cut.drained
            assert "request" in str(cut.holders[0])
            assert op[scalar]["geo.f"](0) == 1
            op.narrow([])
        assert rt.reload("geo", Artifact("geo", {"geo.py": SOURCE.format(n=3).encode()})).drained


def test_plugins_are_initialised_outside_of_the_callers_operation(host):
    seen = []
    HOSTS["init"] = lambda: seen.append(host.rt.current_operation())
    with host.rt.operation("request"):
        host.bump()
    assert seen == [None]


def test_a_jobs_run_is_no_part_of_the_operation_in_which_jobs_were_made(host):
    seen, ran = [], threading.Event()

    def nightly():
        with host.rt.operation("nightly"):
            seen.append(host.agree())
        ran.set()

    HOSTS["nightly"] = nightly
    with host.rt.operation("start-up"):
        jobs = Jobs(host.rt)
    host.bump()
    with jobs:
        jobs.run_now("geo.nightly")
        assert ran.wait(LIMIT_S)
    assert seen == [2]


def test_requests_see_one_version_whatever_they_use(host):
    wrong, pages, after = [], [], []

    def read(request):
        first = host.agree()
        second = request.state.epoch[scalar]["geo.f"](0)
        return f"{first} {second}"

    async def page(request):
        first = (await host.asql())[0]
        await asyncio.sleep(0)
        second = host.pm.hook.page(x=0)[0]
        return PlainTextResponse(f"{first} {second} {await asyncio.to_thread(host.agree)}")

    def in_thread(request):
        return PlainTextResponse(read(request))

    async def stream(request):
        async def parts():
            for _ in range(3):
                yield f"{(await host.asql())[0]} "
                await asyncio.sleep(0)

        def later():
            after.append((request.state.epoch[scalar]["geo.f"](0), host.agree()))

        return StreamingResponse(parts(), background=BackgroundTask(later))

    routes = [Route("/page", page), Route("/thread", in_thread), Route("/stream", stream)]
    app = EpochMiddleware(Starlette(routes=routes), host.rt)

    async def ask(client, path):
        for _ in range(6):
            text = (await client.get(path)).text
            pages.append(text)
            if len(set(text.split())) != 1:
                wrong.append((path, text))

    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asking = [
                asyncio.create_task(ask(client, path)) for path in ("/page", "/thread", "/stream")
            ]
            while not all(task.done() for task in asking):
                await asyncio.to_thread(host.bump)
            await asyncio.gather(*asking)

    asyncio.run(main())
    assert len(pages) == 18
    assert not wrong
    assert len(after) == 6
    assert all(one == other for one, other in after)
