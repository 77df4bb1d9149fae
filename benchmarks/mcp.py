"""Tools for MCP clients: a call beside a plain server's, a long list, a save's way to a client.

* The same function over stdio, in `epochal mcp` and in the SDK's own `MCPServer`, by turns.
* Server time of `tools/list` with 500 tools, the first and the second time in an epoch.
* From the save of a file to the client's notification, over stdio. The watcher waits 0.2 s of it
  for the folder to be quiet; the part after that is measured by itself, as a reload to the
  notification of a client in the same process.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure, from_repeats, ratios, sized

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = sized(200, 50)
_TURNS = sized(7, 3)
_TOOLS = sized(500, 50)
_LISTS = sized(9, 3)
_SAVES = sized(15, 3)

_PLAIN = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("plain")

@server.tool()
def add(a: int, b: int) -> int:
    "Add."
    return a + b

server.run("stdio")
"""
_HEAD = '# /// plugin\n# id = "math"\n# version = "{}.0"\n# ///\nfrom epochal.kinds import tool\n'
_ADD = '@tool\ndef add{}(a: int, b: int{}) -> int:\n    "Add."\n    return a + b\n'


def measure() -> Iterator[Figure]:
    """Yield the figures of calls, of lists and of notifications."""
    logging.getLogger("client").setLevel(logging.ERROR)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tools").mkdir()
        (folder / "tools" / "math.py").write_text(_HEAD.format(1) + _ADD.format("", ""))
        ours, plain = asyncio.run(_calls(folder))
        yield from_repeats("a call over stdio", ours, "us")
        name = "a call over stdio / the same in a plain MCPServer"
        yield from_repeats(name, ratios(ours, plain), "x", 1.1)
        for mode, version in (("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")):
            first, *again = asyncio.run(_lists(folder / "many.py", mode))
            name = f"tools/list of {_TOOLS} tools, server time, protocol of {version}"
            yield Figure(f"{name}, first in an epoch", first, "ms")
            yield from_repeats(f"{name}, again", again, "ms", 2.0)
        saved = asyncio.run(_saves(folder))
        yield from_repeats("a save to the client's notification, over stdio", saved, "ms", 500)
        yield Figure("the same, longest", max(saved), "ms", 500)
        reloaded = asyncio.run(_reloads(folder / "one.py"))
        yield from_repeats("of it after settling: a reload to the notification", reloaded, "ms", 50)


async def _per_call(client: Any, name: str) -> float:
    started = perf_counter()
    for _ in range(_CALLS):
        result = await client.call_tool(name, {"a": 1, "b": 2})
    assert result.structured_content == {"result": 3}
    return (perf_counter() - started) / _CALLS * 1e6


async def _calls(folder: Path) -> tuple[list[float], list[float]]:
    from mcp import Client

    (folder / "plain.py").write_text(_PLAIN)
    ours = _command("-m", "epochal.cli", "mcp", "--plugins", str(folder / "tools"))
    async with Client(ours) as one, Client(_command(str(folder / "plain.py"))) as other:
        await asyncio.gather(one.list_tools(), other.list_tools())
        pairs = [
            (await _per_call(one, "math.add"), await _per_call(other, "add")) for _ in range(_TURNS)
        ]
    return [mine for mine, _ in pairs], [theirs for _, theirs in pairs]


def _command(*arguments: str) -> Any:
    from mcp import StdioServerParameters

    return StdioServerParameters(command=sys.executable, args=[*arguments])


async def _lists(path: Path, mode: str) -> list[float]:
    from mcp import Client
    from mcp.server.lowlevel import Server

    from epochal import Runtime
    from epochal.mcp import attach

    tools = "".join(_ADD.format(n, f", c{n}: int = 0") for n in range(_TOOLS))
    path.write_text(_HEAD.format(1) + tools)
    server: Server[Any] = Server("bench")
    times: list[float] = []

    async def timed(ctx: Any, call_next: Any) -> Any:
        started = perf_counter()
        try:
            return await call_next(ctx)
        finally:
            if ctx.method == "tools/list":
                times.append((perf_counter() - started) * 1e3)

    server.middleware.append(timed)
    with Runtime() as rt:
        attachment = attach(server, rt)
        rt.load(path)
        async with Client(server, mode=mode, cache=None) as client:
            for _ in range(_LISTS):
                assert len((await client.list_tools()).tools) == _TOOLS
        attachment.close()
    return times


class _Told:
    """A client's notifications that its list of tools has changed."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def __call__(self, message: Any) -> None:
        if getattr(message, "method", "").endswith("tools/list_changed"):
            self.event.set()

    async def since(self, started: float) -> float:
        """The milliseconds from a time to the next notification."""
        async with asyncio.timeout(20):
            await self.event.wait()
        self.event.clear()
        return (perf_counter() - started) * 1e3


def _edit(path: Path, number: int) -> None:
    """Write a version whose arguments are others."""
    path.write_text(_HEAD.format(number + 2) + _ADD.format("", f", c{number}: int = 0"))


async def _saves(folder: Path) -> list[float]:
    from mcp import Client

    path, told, times = folder / "tools" / "math.py", _Told(), []
    server = _command("-m", "epochal.cli", "mcp", "--plugins", str(path.parent), "--watch")
    async with Client(server, mode="legacy", message_handler=told) as client:
        await client.list_tools()
        for number in range(_SAVES):
            started = perf_counter()
            _edit(path, number)
            times.append(await told.since(started))
    return times


async def _reloads(path: Path) -> list[float]:
    from mcp import Client
    from mcp.server.lowlevel import Server

    from epochal import Runtime
    from epochal.mcp import attach

    server: Server[Any] = Server("bench")
    told, times = _Told(), []
    path.write_text(_HEAD.format(1) + _ADD.format("", ""))
    with Runtime() as rt:
        attachment = attach(server, rt)
        rt.load(path)
        async with Client(server, mode="legacy", message_handler=told) as client:
            await client.list_tools()
            for number in range(_SAVES):
                _edit(path, number)
                started = perf_counter()
                await rt.areload("math", drain_timeout=0.0)
                times.append(await told.since(started))
        attachment.close()
    return times
