"""FastMCP's client with `epochal mcp`: in `make test-long` alone, where it is installed."""

import asyncio
from importlib.util import find_spec

import pytest
from tests.sizes import IS_LONG
from tests.unit.mcp.support import LIMITED, MODES, SEARCH, Notified, source
from tests.unit.mcp.test_command import served

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="the SDK's own client is in the suite: make test-long"),
    pytest.mark.skipif(find_spec("fastmcp") is None, reason="needs fastmcp-slim[client]"),
]

SLOW = """
@tool
async def count(n: int) -> AsyncIterator[str]:
    "Count."
    for i in range(n):
        yield VERSION
        await asyncio.sleep(0.05)
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_tools_change_while_it_is_connected(tmp_path, transport, mode):
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport
    from fastmcp.exceptions import ToolError

    path = tmp_path / "web.py"
    path.write_text(source(SEARCH + SLOW))
    told, reported = Notified(), []

    async def on_progress(done, total, message):
        reported.append(message)

    async def until(client, names):
        """The list; it asks for no notifications in the newer protocol, and so reads it again."""
        while True:
            tools = await client.list_tools()
            if [one.name for one in tools] == names:
                return tools
            await asyncio.sleep(0.02)

    async def session():
        async with asyncio.timeout(90), served(transport, tmp_path) as server:
            if transport == "stdio":
                options = {"env": server.env, "keep_alive": False}
                server = StdioTransport(server.command, server.args, **options)
            async with Client(server, mode=mode, message_handler=told, cache=False) as client:
                (_, search) = await until(client, ["web.count", "web.search"])
                assert search.input_schema["required"] == ["query"]
                result = await client.call_tool("web.search", {"query": "q"})
                assert result.structured_content == {"result": "1.0"}
                with pytest.raises(ToolError, match="'query': input should be a valid string"):
                    await client.call_tool("web.search", {"query": 1})
                counting = asyncio.create_task(
                    client.call_tool("web.count", {"n": 30}, progress_handler=on_progress)
                )
                while not reported:
                    await asyncio.sleep(0.01)
                path.write_text(source(LIMITED, "2.0"))
                (search,) = await until(client, ["web.search"])
                assert search.input_schema["required"] == ["query", "limit"]
                result = await client.call_tool("web.search", {"query": "q", "limit": 1})
                assert (result.data.result, result.meta["epochal"]["version"]) == ("2.0", "2.0")
                result = await counting  # to its end on its own version
                assert result.structured_content == {"result": ["1.0"] * 30}
                assert reported == ["1.0"] * 30
                path.unlink()
                await until(client, [])
                result = await client.call_tool("web.search", {"query": "q", "limit": 1})
                assert result.structured_content == {"result": "2.0"}  # kept for who saw it
                if mode == "legacy":
                    await told.wait("tools", 2)
        assert told.counts == ({"tools": 2} if mode == "legacy" else {})

    asyncio.run(session())
