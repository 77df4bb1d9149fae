"""A request sees one epoch from its first line to its last byte."""

import asyncio
import gc
import weakref
from typing import Annotated

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from tests.conftest import tool

from epochal import Operation
from epochal.asgi import EpochMiddleware, epoch
from epochal.errors import NoEpochError

pytestmark = pytest.mark.anyio
PAIR = "N = {n}\n@tool\ndef left(): return N\n@tool\ndef right(): return N\n"


class Host:
    """An application, and the events that its requests wait for."""

    def __init__(self, rt, plugins):
        self.rt, self.plugins = rt, plugins
        self.inside, self.go_on = asyncio.Event(), asyncio.Event()
        self.seen = []
        routes = [
            Route("/pair", self.pair),
            Route("/held", self.held),
            Route("/stream", self.stream),
            Route("/after", self.after),
            Route("/fails", self.fails),
            Route("/where", self.where),
        ]
        self.app = EpochMiddleware(Starlette(routes=routes), rt)
        self.save(1)
        rt.load(plugins.root / "geo.py")

    def save(self, n):
        self.plugins.write("geo", PAIR.format(n=n))

    async def reload(self, n, **options):
        self.save(n)
        return await self.rt.areload("geo", **options)

    def client(self):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    async def pair(self, request):
        epoch = request.state.epoch
        left = epoch[tool]["geo.left"]()
        await asyncio.sleep(0.001)
        return PlainTextResponse(f"{left} {epoch[tool]['geo.right']()}")

    async def held(self, request):
        self.inside.set()
        await self.go_on.wait()
        return PlainTextResponse(str(request.state.epoch[tool]["geo.left"]()))

    async def stream(self, request):
        async def parts():
            yield f"{request.state.epoch[tool]['geo.left']()} "
            self.inside.set()
            await self.go_on.wait()
            yield f"{request.state.epoch[tool]['geo.right']()}"

        return StreamingResponse(parts())

    async def after(self, request):
        def later():
            self.seen.append(request.state.epoch[tool]["geo.left"]())

        return PlainTextResponse("", background=BackgroundTask(later))

    async def fails(self, request):
        raise LookupError(request.state.epoch[tool]["geo.left"]())

    async def where(self, request):
        return PlainTextResponse(str(request.state.epoch.number))


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def host(rt, plugins):
    return Host(rt, plugins)


async def test_requests_during_reloads_see_one_version(host):
    stop = False

    async def ask(client):
        answers = []
        while not stop:
            answers.append((await client.get("/pair")).text)
        return answers

    async with host.client() as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(20)]
        for n in range(2, 52):
            cut = await host.reload(n)
            assert cut.drained
        stop = True
        answers = [text for task in asking for text in await task]
    assert len(answers) >= 1000
    assert all(len(set(text.split())) == 1 for text in answers)


@pytest.mark.parametrize(("path", "text"), [("/held", "1"), ("/stream", "1 1")])
async def test_a_request_is_a_named_holder_and_ends_on_its_code(host, path, text):
    async with host.client() as client:
        asking = asyncio.create_task(client.get(path))
        await host.inside.wait()
        cut = await host.reload(2, drain_timeout=0.0)
        assert not cut.drained
        assert f"operation 'GET {path}'" in str(cut.holders[0])
        host.go_on.set()
        answer = await asking
        assert answer.text == text
        assert answer.headers["epochal-epoch"] == "1"
        assert (await client.get("/where")).text == "2"


async def test_a_background_task_is_part_of_its_request(host):
    async with host.client() as client:
        await client.get("/after")
    assert host.seen == [1]


async def test_a_finished_request_does_not_hold_the_epoch(host):
    async with host.client() as client:
        for path in ("/pair", "/fails", "/after", "/nothing"):
            await client.get(path)
    epoch = weakref.ref(host.rt.epoch)
    cut = await host.reload(2)
    assert cut.drained
    gc.collect()
    assert epoch() is None


async def test_a_client_that_disconnects_releases_the_epoch(host):
    async with host.client() as client:
        asking = asyncio.create_task(client.get("/held"))
        await host.inside.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    del asking
    assert (await host.reload(2)).drained


async def test_a_cancelled_request_gets_a_503(host):
    async with host.client() as client:
        asking = asyncio.create_task(client.get("/held"))
        await host.inside.wait()
        cut = await host.reload(2, drain_timeout=0.2, cancel_holders=True)
        answer = await asking
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "0")
    assert cut.drained


async def test_requests_do_not_share_their_state(host):
    shared = {"of the server": 1}
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)

    wrapped = EpochMiddleware(app, host.rt)
    for _ in range(2):
        await wrapped({"type": "http", "method": "GET", "path": "/", "state": shared}, None, None)
    first, second = (scope["state"] for scope in scopes)
    assert first["epoch"] is not second["epoch"]
    assert shared == {"of the server": 1}


async def test_other_scopes_are_passed_on(host):
    passed = []

    async def app(scope, receive, send):
        passed.append(scope)

    lifespan = {"type": "lifespan"}
    await EpochMiddleware(app, host.rt)(lifespan, None, None)
    assert passed == [lifespan]


async def test_a_websocket_keeps_its_epoch_until_it_begins_another(host):
    async def talk(socket):
        await socket.accept()
        epoch = socket.state.epoch
        await socket.send_text(str(epoch[tool]["geo.left"]()))
        await socket.receive_text()
        await socket.send_text(str(epoch[tool]["geo.left"]()))
        epoch.end()
        with host.rt.operation("one message") as newer:
            await socket.send_text(str(newer[tool]["geo.left"]()))

    app = EpochMiddleware(Starlette(routes=[WebSocketRoute("/talk", talk)]), host.rt)
    to, sent = asyncio.Queue(), asyncio.Queue()
    scope = {"type": "websocket", "path": "/talk", "headers": [], "subprotocols": []}
    talking = asyncio.create_task(app(scope, to.get, sent.put))
    await to.put({"type": "websocket.connect"})
    assert (await sent.get())["type"] == "websocket.accept"
    assert (await sent.get())["text"] == "1"
    cut = await host.reload(2, drain_timeout=0.0)
    assert any("operation 'WS /talk'" in holder for holder in map(str, cut.holders))
    await to.put({"type": "websocket.receive", "text": "go on"})
    assert [(await sent.get())["text"] for _ in range(2)] == ["1", "2"]
    await talking


async def test_the_function_gives_the_pinned_operation_of_a_request(host):
    async def page(request):
        assert epoch(request) is request.state.epoch
        return PlainTextResponse(str(epoch(request)[tool]["geo.left"]()))

    host.app = EpochMiddleware(Starlette(routes=[Route("/page", page)]), host.rt)
    async with host.client() as client:
        assert (await client.get("/page")).text == "1"


async def test_a_dependency_of_fastapi_is_the_pinned_operation(host):
    app = fastapi.FastAPI()
    app.add_middleware(EpochMiddleware, runtime=host.rt)

    @app.get("/price")
    async def price(pinned: Annotated[Operation, fastapi.Depends(epoch)], n: int = 2) -> int:
        return pinned[tool]["geo.left"]() * n

    host.app = app
    async with host.client() as client:
        answer = await client.get("/price?n=3")
        assert (answer.status_code, answer.json()) == (200, 3)
        [parameter] = (await client.get("/openapi.json")).json()["paths"]["/price"]["get"][
            "parameters"
        ]
        assert parameter["name"] == "n"


async def test_a_request_without_the_middleware_says_what_to_add():
    with pytest.raises(NoEpochError, match="'/page' has no epoch") as raised:
        epoch(Request({"type": "http", "path": "/page", "headers": []}))
    assert raised.value.code == "no-epoch"
