"""Datasette's pages under reloads: each page is of one version."""

import asyncio
import re

from beneath import Program, checked

program = Program("""
from datasette import hookimpl

@hookimpl
def menu_links():
    return [{"href": "/v{n}", "label": "version {n}"}]

@hookimpl
def extra_body_script():
    return "version {n}"

@hookimpl
def extra_template_vars():
    return {"echo": "version {n}"}
""")

import httpx
from datasette.app import Datasette

from epochal.asgi import EpochMiddleware

PAGES, RELOADS = 200, 20


async def main() -> None:
    program.load()
    datasette = Datasette(memory=True)
    await datasette.invoke_startup()
    app = EpochMiddleware(datasette.app(), program.rt)
    pages: list[set[str]] = []
    is_over = False

    async def ask(client: httpx.AsyncClient) -> None:
        while not is_over:
            page = await client.get("/")
            assert page.status_code == 200, page.text
            pages.append(set(re.findall(r"version (\d+)", page.text)))

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(4)]
        while program.n <= RELOADS or len(pages) < PAGES:
            program.save()
            checked(await program.rt.areload("echo"))
        is_over = True
        await asyncio.gather(*asking)
    mixed = [page for page in pages if len(page) != 1]
    assert not mixed, mixed
    print(f"Datasette: {len(pages)} pages under {program.n - 1} reloads, none of two versions")


asyncio.run(main())
