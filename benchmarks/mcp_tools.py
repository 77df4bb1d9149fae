"""Tools for MCP clients: a call beside a plain server's, a long list, a save's way to a client.

    python -m benchmarks.mcp_tools

* The same function over stdio, in `epochal mcp` and in the SDK's own `MCPServer`, by turns.
* Server time of `tools/list` with 500 tools, the first and the second time in an epoch.
* From the save of a file to the client's notification, of which the watcher waits 0.2 s for the
  folder to be quiet.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import textwrap
from pathlib import Path
from time import perf_counter

CALLS, TURNS, TOOLS, SAVES = 200, 7, 500, 7

PLAIN = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("plain")

@server.tool()
def add(a: int, b: int) -> int:
    "Add."
    return a + b

server.run("stdio")
"""
HEAD = '# /// plugin\n# id = "math"\n# version = "{}.0"\n# ///\nfrom epochal.kinds import tool\n'
ADD = '@tool\ndef add(a: int, b: int{}) -> int:\n    "Add."\n    return a + b\n'


async def per_call(client, name):
    started = perf_counter()
    for _ in range(CALLS):
        result = await client.call_tool(name, {"a": 1, "b": 2})
    assert result.structured_content == {"result": 3}
    return (perf_counter() - started) / CALLS * 1e6


async def calls(folder):
    from mcp import Client, StdioServerParameters

    (folder / "plain.py").write_text(textwrap.dedent(PLAIN))
    command = ["-m", "epochal.cli", "mcp", "--plugins", str(folder / "tools")]
    ours = StdioServerParameters(command=sys.executable, args=command)
    plain = StdioServerParameters(command=sys.executable, args=[str(folder / "plain.py")])
    async with Client(ours) as one, Client(plain) as other:
        await asyncio.gather(one.list_tools(), other.list_tools())
        pairs = [
            (await per_call(one, "math.add"), await per_call(other, "add")) for _ in range(TURNS)
        ]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"call over stdio: {mine:.0f} us, in a plain MCPServer {theirs:.0f} us: {ratio:.2f}")


async def lists():
    from mcp import Client
    from mcp.server.lowlevel import Server

    from epochal import Runtime
    from epochal.mcp import attach

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "math.py"
        tools = "".join(
            ADD.format(f", c{n}: int = 0").replace("add", f"add{n}") for n in range(TOOLS)
        )
        path.write_text(HEAD.format(1) + tools)
        rt, server, times = Runtime(), Server("bench"), []

        async def timed(ctx, call_next):
            started = perf_counter()
            try:
                return await call_next(ctx)
            finally:
                if ctx.method == "tools/list":
                    times.append((perf_counter() - started) * 1e3)

        server.middleware.append(timed)
        attachment = attach(server, rt)
        started = perf_counter()
        rt.load(path)
        loaded = perf_counter() - started
        for mode in ("legacy", "2026-07-28"):
            times.clear()
            async with Client(server, mode=mode, cache=None) as client:
                for _ in range(5):
                    assert len((await client.list_tools()).tools) == TOOLS
            print(
                f"tools/list of {TOOLS} tools, {mode}: {times[0]:.1f} ms, again "
                f"{statistics.median(times[1:]):.2f} ms (loaded in {loaded:.1f} s)"
            )
        attachment.close()
        rt.close()


async def notifications(folder):
    from mcp import Client, StdioServerParameters

    told, path = asyncio.Event(), folder / "tools" / "math.py"

    async def on_message(message):
        if getattr(message, "method", "").endswith("tools/list_changed"):
            told.set()

    command = ["-m", "epochal.cli", "mcp", "--plugins", str(folder / "tools"), "--watch"]
    server = StdioServerParameters(command=sys.executable, args=command)
    times = []
    async with Client(server, mode="legacy", message_handler=on_message) as client:
        await client.list_tools()
        for number in range(SAVES):
            told.clear()
            started = perf_counter()
            path.write_text(HEAD.format(number + 2) + ADD.format(f", c{number}: int = 0"))
            async with asyncio.timeout(20):
                await told.wait()
            times.append((perf_counter() - started) * 1e3)
    print(
        f"save to notification: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms"
    )


def main():
    logging.getLogger("mcp").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tools").mkdir()
        (folder / "tools" / "math.py").write_text(HEAD.format(1) + ADD.format(""))
        asyncio.run(calls(folder))
        asyncio.run(lists())
        asyncio.run(notifications(folder))


if __name__ == "__main__":
    main()
