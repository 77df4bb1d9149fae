"""`/mcp` of a service: behind the same guard and tokens, and ended with it."""

import asyncio
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.server.conftest import ADMIN, QUERY
from tests.unit.mcp.support import LIMITED, MODES, SEARCH, connected, facts, source, text


def put(served, code, version):
    answer = served.admin.put(
        "/v1/plugins/web", content=source(code, version), headers={"content-type": "text/x-python"}
    )
    assert answer.status_code in (200, 201), answer.text


@asynccontextmanager
async def authorized(served, token, **options):
    """A client that sends a token, and the HTTP client that it sends it by."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(f"{served.url}/mcp", http_client=http), **options) as client,
    ):
        yield client, http


@pytest.mark.parametrize("mode", MODES)
def test_tools_are_served_and_changed_and_streams_end_with_the_service(start_service, mode):
    served = start_service()
    put(served, SEARCH, "1.0")
    reached = []

    async def main():
        async with asyncio.timeout(60):
            async with connected(f"{served.url}/mcp", mode) as (client, told):
                result = await client.call_tool("web.search", {"query": "q"})
                assert text(result) == facts(result)["version"]
                reached.append(text(result))
                await client.list_tools()
                await asyncio.to_thread(put, served, LIMITED, "2.0")
                await told.wait("tools", 1)
                result = await client.call_tool("web.search", {"query": "q", "limit": 1})
                reached.append(text(result))
                # With its stream open: the service ends it, and waits for no client.
                await asyncio.to_thread(served.stop)

    with suppress(Exception):  # the client's own report that its stream has ended
        asyncio.run(main())
    assert reached == ["1.0", "2.0"]
    assert served.ended


def test_a_query_token_is_asked_for(start_service):
    served = start_service(query_token=QUERY)
    put(served, SEARCH, "1.0")
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert served.http.post("/mcp", json=body).status_code == 401
    assert served.http.post("/mcp", json=body, headers={"host": "evil.example"}).status_code == 421
    foreign = {"origin": "http://evil.example", "authorization": f"Bearer {ADMIN}"}
    assert served.http.post("/mcp", json=body, headers=foreign).status_code == 403

    async def main():
        async with asyncio.timeout(60), authorized(served, QUERY) as (client, _):
            result = await client.call_tool("web.search", {"query": "q"})
            assert text(result) == "1.0"

    asyncio.run(main())


DESTRUCTIVE = """
CALLED = []

@tool(destructive=True)
def drop(table: str) -> int:
    "Drop a table."
    CALLED.append(table)
    return len(CALLED)
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_destructive_tool_needs_the_admin_token(start_service, mode):
    """Of the request that calls it: also in a session that was begun with the admin token."""
    served = start_service(query_token=QUERY)
    put(served, SEARCH + DESTRUCTIVE, "1.0")

    async def main():
        async with asyncio.timeout(60), authorized(served, ADMIN, mode=mode) as (client, http):
            calls = []
            for token in (ADMIN, QUERY, ADMIN):
                http.headers["authorization"] = f"Bearer {token}"
                calls.append(await client.call_tool("web.drop", {"table": "orders"}))
            assert [one.is_error for one in calls] == [False, True, False]
            assert "web.drop is marked destructive: it needs the admin token" in text(calls[1])
            assert calls[2].structured_content == {"result": 2}  # the second did not run
            http.headers["authorization"] = f"Bearer {QUERY}"
            assert text(await client.call_tool("web.search", {"query": "q"})) == "1.0"

    asyncio.run(main())
