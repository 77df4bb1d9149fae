"""A plugin of tools, and clients of the official SDK that count what they are notified of."""

import asyncio
from contextlib import asynccontextmanager
from textwrap import dedent

from mcp import Client
from mcp.server.lowlevel import Server

from epochal.mcp import attach

MODES = ["legacy", "auto"]
"""The protocol of 2025-11-25, and that of 2026-07-28."""

HEAD = """\
# /// plugin
# id = "{plugin}"
# version = "{version}"
# ///
import asyncio
import threading
import time
from collections.abc import AsyncIterator

from epochal.kinds import prompt, resource, tool
from epochal.kinds.tool_call import cancelled, log, progress

VERSION = "{version}"

"""

SEARCH = """
@tool
def search(query: str) -> str:
    "Find pages."
    return VERSION
"""
LIMITED = SEARCH.replace("query: str", "query: str, limit: int")
OPTIONAL = SEARCH.replace("query: str", "query: str, limit: int = 1")


def source(code, version="1.0", plugin="web"):
    return HEAD.format(plugin=plugin, version=version) + dedent(code)


class Plugin:
    """Loads and reloads plugin web."""

    def __init__(self, rt, folder):
        self.rt, self.path, self.number = rt, folder / "web.py", 0

    async def save(self, code, **options):
        self.number += 1
        self.path.write_text(source(code, f"{self.number}.0"))
        if "web" in self.rt.epoch.generations:
            return await self.rt.areload("web", **{"drain_timeout": 0.0, **options})
        return await self.rt.aload(self.path)


class Notified:
    """Counts notifications of a client."""

    def __init__(self):
        self.counts, self.messages, self._event = {}, [], asyncio.Event()

    async def __call__(self, message):
        name = getattr(message, "method", "")
        self.messages.append(message)
        if name.endswith("list_changed"):
            kind = name.split("/")[1]
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self._event.set()

    async def wait(self, kind, number):
        async with asyncio.timeout(30):
            while self.counts.get(kind, 0) < number:
                self._event.clear()
                await self._event.wait()


@asynccontextmanager
async def connected(server, mode, **options):
    """A client and its notifications; with the newer protocol it listens to all three lists."""
    notified = Notified()
    async with Client(server, mode=mode, message_handler=notified, **options) as client:
        if mode == "legacy":
            yield client, notified
            return
        ready = asyncio.Event()

        async def listen():
            lists = dict.fromkeys(
                ("tools_list_changed", "prompts_list_changed", "resources_list_changed"), True
            )
            async with client.listen(**lists) as events:
                ready.set()
                async for _ in events:
                    pass

        task = asyncio.create_task(listen())
        await asyncio.wait(
            {task, waiting := asyncio.create_task(ready.wait())}, return_when="FIRST_COMPLETED"
        )
        waiting.cancel()
        yield client, notified
        task.cancel()
        await asyncio.wait({task})


def offered(rt, **options):
    """A server of its own with the plugins of a runtime."""
    server = Server("test")
    attached.append(attachment := attach(server, rt, **options))
    return server, attachment


attached = []
"""What `close_all` closes, before the runtime would wait for the versions that they hold."""


def close_all():
    while attached:
        attached.pop().close()


def text(result):
    return result.content[0].text


def facts(result):
    return result.meta["epochal"]
