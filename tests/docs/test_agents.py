"""docs/agents.md: its session prints what it says, and its server has both kinds of tools."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from mcp import Client
from tests.docs.test_pages import blocks

PAGE = Path(__file__).parents[2] / "docs/agents.md"


def test_the_page_runs_and_prints_what_it_says(tmp_path, monkeypatch):
    expected, embedded = None, None
    for language, title, text in blocks(PAGE):
        if title:
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(text)
        elif language == "json":
            assert json.loads(text)["mcpServers"]["shop"]["args"][0] == "mcp"
        elif language == "text":
            expected = text
        elif language == "python":
            embedded = text
    ended = subprocess.run(
        [sys.executable, "session.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == expected, ended.stderr
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
