"""`make demo-agent`: one MCP session, several tasks, fifty changes of the tools under them.

No model and no network: a scripted client of the official SDK holds one session with `epochal mcp`
from beginning to end. Its tasks call tools as fast as they are answered, by the schemas that the
session listed last, while files are saved, broken, added and removed. Each answer is checked:

- *failed*: an error, where the arguments fit a schema that was listed;
- *mixed*: parts of the answer come from different versions, or from another one than its `_meta`
  and the digest there say;
- *stale*: the answer is of an older epoch than the list that was known when the call began.

Notifications are counted: one for each change that a client can see, none for a body alone or for a
broken file.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHANGES: Final = 50
TASKS: Final = 4
_LIMIT_S: Final = 30.0

_SOURCE: Final = """\
# /// plugin
# id = "{plugin}"
# version = "{version}.0"
# ///
import asyncio

from epochal.kinds import tool

VERSION = "{version}.0"


def price(item, version="{version}.0"):
    return f"{{VERSION}} {{version}}"


@tool
def quick(item: str{parameter}) -> str:
    "Answer at once."
    return price(item)


@tool
async def slow(item: str{parameter}) -> str:
    "Answer after a while, with what was there before and after."
    before = price(item)
    await asyncio.sleep(0.02)
    return f"{{before}} {{price(item)}}"
"""


@dataclass
class Session:
    """What the client knows, and what it has counted.

    Attributes:
        folder: the plugins' folder.
        tools: name -> the names of arguments that it needs, by the last list.
        epoch: the number of the last list's epoch.
        digests: plugin and version -> the digest of the file that was saved.
        wrong: failed, mixed and stale answers.
        notified: notifications that the list of tools has changed.
        calls: answers that were right.
        expected: changes that a client can see.
        versions: plugin -> its last version.
        examples: wrong answers, in words.
    """

    folder: Path
    tools: dict[str, list[str]] = field(default_factory=dict)
    epoch: int = 0
    digests: dict[tuple[str, str], str] = field(default_factory=dict)
    wrong: Counter[str] = field(default_factory=Counter)
    notified: int = 0
    calls: int = 0
    expected: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def save(self, plugin: str, parameter: str) -> None:
        """Save a new version of a plugin."""
        from epochal.artifact import read_artifact

        self.versions[plugin] += 1
        version = self.versions[plugin]
        text = _SOURCE.format(plugin=plugin, version=version, parameter=parameter)
        path = self.folder / f"{plugin}.py"
        path.write_text(text)
        self.digests[plugin, f"{version}.0"] = read_artifact(path).digest

    def arguments(self, name: str) -> dict[str, Any]:
        """Arguments for a tool, by the last list."""
        return {key: "tea" if key == "item" else 1 for key in self.tools[name]}

    def _digest_of(self, facts: dict[str, Any]) -> str | None:
        """The digest of the file that was saved as the version that an answer names."""
        return self.digests.get((facts["plugin"], facts["version"]))

    def judge(self, result: Any, known: int, name: str) -> None:
        """Count an answer."""
        text = result.content[0].text if result.content else ""
        facts = (result.meta or {}).get("epochal", {})
        fault = ""
        if result.is_error:
            fault = "failed"
        elif {*text.split()} != {facts["version"]} or self._digest_of(facts) != facts["digest"]:
            fault = "mixed"
        elif facts["epoch"] < known:
            fault = "stale"
        if fault:
            self.wrong[fault] += 1
            self.examples.append(f"{fault}: {name}: {text} {facts}")
        else:
            self.calls += 1


def main() -> int:
    """Run it; returns 0 if no answer was wrong and the notifications are as expected."""
    changes = int(sys.argv[1]) if len(sys.argv) > 1 else CHANGES
    # The client warns of calls of tools that it no longer lists: here they are the point.
    logging.getLogger("client").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        asyncio.run(_run(session, changes))
    wrong = sum(session.wrong.values())
    print(
        f"{changes} changes, {session.calls + wrong} calls in one session: "
        f"{session.wrong['failed']} failed, {session.wrong['mixed']} mixed, "
        f"{session.wrong['stale']} stale"
    )
    print(f"{session.notified} notifications, {session.expected} changes that a client can see")
    for example in session.examples[:5]:
        print(example)
    return int(wrong > 0 or session.notified != session.expected)


async def _run(session: Session, changes: int) -> None:
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    session.save("shop", "")
    changed = asyncio.Event()

    async def on_message(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            session.notified += 1
            changed.set()

    arguments = ["-m", "epochal.cli", "mcp", "--plugins", str(session.folder), "--watch"]
    server = StdioServerParameters(command=sys.executable, args=arguments)
    with (session.folder / "log.txt").open("w+") as log:
        transport = stdio_client(server, errlog=log)
        async with Client(transport, mode="legacy", message_handler=on_message) as client:
            await _list(session, client)
            over = asyncio.Event()
            tasks = [asyncio.create_task(_call(session, client, over, n)) for n in range(TASKS)]
            try:
                await _change(session, client, changed, Path(log.name), changes)
            finally:
                over.set()
                await asyncio.gather(*tasks)
            # One more turn of the pipe: a notification too many would be here by then.
            await client.list_tools()


async def _list(session: Session, client: Any) -> None:
    listed = await client.list_tools()
    session.tools = {tool.name: tool.input_schema.get("required", []) for tool in listed.tools}
    session.epoch = listed.meta["epochal"]["epoch"]


async def _call(session: Session, client: Any, over: asyncio.Event, number: int) -> None:
    turn = number
    while not over.is_set():
        known, names = session.epoch, sorted(session.tools)
        if not names:
            await asyncio.sleep(0.01)
            continue
        turn += 1
        name = names[turn % len(names)]
        session.judge(await client.call_tool(name, session.arguments(name)), known, name)


async def _change(
    session: Session, client: Any, changed: asyncio.Event, log: Path, changes: int
) -> None:
    async def until(is_so: Callable[[], Awaitable[bool] | bool]) -> None:
        async with asyncio.timeout(_LIMIT_S):
            while True:
                answer = is_so()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.005)

    async def seen() -> None:
        session.expected += 1
        async with asyncio.timeout(_LIMIT_S):
            while session.notified < session.expected:
                changed.clear()
                await changed.wait()
        await _list(session, client)

    async def serves() -> bool:
        result = await client.call_tool("shop.quick", session.arguments("shop.quick"))
        version: str = result.meta["epochal"]["version"]
        return version == f"{session.versions['shop']}.0"

    parameter = ""
    for number in range(changes):
        kind = number % 6
        refused = log.read_text().count(" refused ")
        if kind in (0, 3):  # a body alone
            session.save("shop", parameter)
            await until(serves)
        elif kind == 1:  # the schema: an argument comes or goes, optional or required
            following = {"": ", number: int = 1", ", number: int = 1": ", number: int"}
            parameter = following.get(parameter, "")
            session.save("shop", parameter)
            await seen()
        elif kind == 2:  # broken
            (session.folder / "shop.py").write_text("# /// plugin\n# id = 'shop'\n# ///\nx = (")
            await until(lambda n=refused: log.read_text().count(" refused ") > n)  # type: ignore[misc]
        elif kind == 4:  # added
            session.save("desk", "")
            await seen()
        else:  # removed
            (session.folder / "desk.py").unlink()
            await seen()


if __name__ == "__main__":
    sys.exit(main())
