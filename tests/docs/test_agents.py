"""docs/agents.md: its server has both kinds of tools; test_pages.py runs its session."""

import asyncio
import json
from pathlib import Path

from mcp import Client
from tests.docs.test_pages import blocks

PAGE = Path(__file__).parents[2] / "docs/agents.md"


def test_the_embedded_server_has_its_own_tool_and_the_plugins(tmp_path, monkeypatch):
    embedded = None
    for language, title, text in blocks(PAGE):
        if title:
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(text)
        elif language == "json":
            assert json.loads(text)["mcpServers"]["shop"]["args"][0] == "mcp"
        elif language == "python":
            embedded = text
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(embedded, "agents.md", "exec"), names)

    async def main():
        async with Client(names["server"]) as client:
            listed = [tool.name for tool in (await client.list_tools()).tools]
            assert listed == ["hello", "shop.price"]

    asyncio.run(main())
    names["attachment"].close()
    names["rt"].close()
