"""`epochal mcp` over both transports: the SDK's own client, tools saved while it is connected."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from mcp import StdioServerParameters
from tests.sizes import IS_LONG
from tests.unit.mcp.support import LIMITED, MODES, SEARCH, connected, facts, source, text

from epochal.cli import main

NOISY = """
print("as it is loaded", flush=True)

@tool
def search(query: str) -> str:
    "Find pages."
    import os
    print("a line")
    print("no newline", end="")
    os.write(1, b"raw\\n")
    os.system("echo a child")
    log("logged", "warning")
    progress(1, 2, "half")
    return VERSION
"""

COMMAND = [sys.executable, "-m", "epochal.cli", "mcp"]
CASES = [(transport, mode) for transport in ("stdio", "http") for mode in MODES]


@asynccontextmanager
async def served(transport, folder, *options):
    """What a client connects to."""
    arguments = ["--plugins", str(folder), "--watch", *options]
    if transport == "stdio":
        yield StdioServerParameters(
            command=COMMAND[0], args=[*COMMAND[1:], *arguments], env=dict(os.environ)
        )
        return
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, "--http", "--port", "0", stdout=subprocess.PIPE
    )
    try:
        line = (await process.stdout.readline()).decode()
        yield line.split()[-1]
    finally:
        process.terminate()
        assert await process.wait() == 0


@pytest.mark.parametrize(("transport", "mode"), CASES if IS_LONG else [CASES[0], CASES[3]])
def test_tools_change_while_a_client_is_connected(tmp_path, transport, mode):
    path = tmp_path / "web.py"
    path.write_text(source(NOISY))
    (tmp_path / "broken.py").write_text(source("raise RuntimeError('broken')", plugin="broken"))
    logged, seen = [], []

    async def on_log(params):
        logged.append(params.data)

    async def on_progress(done, total, message):
        seen.append((done, total, message))

    async def session():
        async with (
            asyncio.timeout(90),
            served(transport, tmp_path) as server,
            connected(server, mode, logging_callback=on_log, log_level="info") as (client, told),
        ):
            assert [one.name for one in (await client.list_tools()).tools] == ["web.search"]
            result = await client.call_tool(
                "web.search", {"query": "q"}, progress_callback=on_progress
            )
            assert text(result) == facts(result)["version"] == "1.0"
            assert (logged, seen) == (["logged"], [(1, 2, "half")])
            path.write_text(source(LIMITED, "2.0"))
            await told.wait("tools", 1)
            assert (
                "limit"
                in (await client.list_tools(cache_mode="bypass")).tools[0].input_schema["required"]
            )
            result = await client.call_tool("web.search", {"query": "q", "limit": 1})
            assert text(result) == "2.0"
            path.write_text(source("x = (", "3.0"))
            (tmp_path / "more.py").write_text(source(SEARCH, "1.0", plugin="more"))
            await told.wait("tools", 2)
            result = await client.call_tool("web.search", {"query": "q", "limit": 1})
            assert text(result) == "2.0"
            path.unlink()
            await told.wait("tools", 3)
            names = [one.name for one in (await client.list_tools(cache_mode="bypass")).tools]
            assert names == ["more.search"]
            assert told.counts == {"tools": 3}

    asyncio.run(session())


@pytest.mark.skipif(not IS_LONG, reason="a hundred connections: make test-long")
@pytest.mark.parametrize("mode", MODES)
def test_a_hundred_sessions_over_http_are_each_told_once_and_answered(tmp_path, mode):
    path = tmp_path / "web.py"
    path.write_text(source(SEARCH))

    async def session():
        async with (
            asyncio.timeout(300),
            served("http", tmp_path) as server,
            AsyncExitStack() as stack,
        ):
            clients = [await stack.enter_async_context(connected(server, mode)) for _ in range(100)]
            for arguments, version in (({}, "1.0"), ({"limit": 1}, "2.0")):
                await asyncio.gather(*(client.list_tools() for client, _ in clients))
                calls = [
                    client.call_tool("web.search", {"query": "q", **arguments})
                    for client, _ in clients
                ]
                assert {text(one) for one in await asyncio.gather(*calls)} == {version}
                if version == "1.0":
                    path.write_text(source(LIMITED, "2.0"))
                    await asyncio.gather(*(told.wait("tools", 1) for _, told in clients))
            assert [told.counts for _, told in clients] == [{"tools": 1}] * 100

    asyncio.run(session())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to serve"),
        (["--watch", "--store", "s"], "--plugins DIR"),
        (["--plugins", "none"], "none is not a folder"),
        (["--plugins", ".", "--http", "--host", "0.0.0.0"], "set EPOCHAL_MCP_TOKEN"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPOCHAL_MCP_TOKEN", raising=False)
    assert main(["mcp", *arguments]) != 0
    out, err = capsys.readouterr()
    assert said in " ".join(err.split())
    assert out == ""


def test_the_clients_end_ends_the_server_and_its_plugins(tmp_path):
    code = SEARCH + "\ndef shutdown():\n    print('shut down')\n"
    (tmp_path / "web.py").write_text(source(code))
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    ended = subprocess.run(
        [*COMMAND, "--plugins", str(tmp_path)],
        input=json.dumps(request) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (answer,) = ended.stdout.splitlines()
    assert json.loads(answer)["result"]["capabilities"]["tools"] == {"listChanged": True}
    assert "shut down" in ended.stderr


def test_a_broken_plugin_refuses_the_start_without_watch(tmp_path):
    (tmp_path / "web.py").write_text(source("raise RuntimeError('broken')"))
    ended = subprocess.run(
        [*COMMAND, "--plugins", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "broken" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
