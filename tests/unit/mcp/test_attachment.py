"""Tools of plugins in a server of the official SDK: one epoch a call, announced once a change."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from tests.sizes import sized
from tests.unit.mcp.support import (
    LIMITED,
    MODES,
    OPTIONAL,
    SEARCH,
    Plugin,
    close_all,
    connected,
    facts,
    offered,
    text,
)

from epochal.kinds import tool
from epochal.mcp import attach

pytestmark = pytest.mark.parametrize("mode", MODES)


def run(main):
    async def limited():
        async with asyncio.timeout(60):
            await main()

    asyncio.run(limited())


def names_of(rt, name):
    """The names of the module that a tool is of."""
    return rt.epoch[tool][name].function.__globals__


@asynccontextmanager
async def listed(rt, web, mode, **options):
    """A client that has listed the first version, its notifications, and the attachment."""
    await web.save(SEARCH)
    server, attachment = offered(rt, **options)
    async with connected(server, mode) as (client, notified):
        await client.list_tools()
        yield client, notified, attachment


@pytest.fixture
def web(rt, tmp_path):
    yield Plugin(rt, tmp_path)
    close_all()


def test_a_list_and_a_call_name_their_epoch(rt, web, mode):
    async def main():
        await web.save(SEARCH)
        server, _ = offered(rt)
        async with connected(server, mode) as (client, _):
            listed = await client.list_tools()
            assert [one.name for one in listed.tools] == ["web.search"]
            assert facts(listed) == {"epoch": 1, "id": rt.epoch.id}
            result = await client.call_tool("web.search", {"query": "q"})
            assert (text(result), result.structured_content) == ("1.0", {"result": "1.0"})
            generation = rt.generation("web")
            assert facts(result) == {
                "epoch": 1,
                "id": rt.epoch.id,
                "plugin": "web",
                "version": "1.0",
                "generation": 0,
                "digest": generation.digest,
            }

    run(main)


def test_a_visible_change_is_announced_once_and_a_body_alone_never(rt, web, mode):
    async def main():
        async with listed(rt, web, mode) as (client, notified, attachment):
            await web.save(SEARCH + "# another body\n")
            await web.save(OPTIONAL)
            await notified.wait("tools", 1)
            assert facts(await client.list_tools())["epoch"] == 3
            await web.save(OPTIONAL + "\n@prompt\ndef ask(q: str) -> str:\n    return q\n")
            await notified.wait("prompts", 1)
            with pytest.raises(Exception, match="no tool"):
                await web.save("raise RuntimeError('no tool')")
            await rt.aremove("web", drain_timeout=0.0)
            await notified.wait("tools", 2)
            await notified.wait("prompts", 2)
        assert notified.counts == {"tools": 2, "prompts": 2}
        assert attachment.announced == {"tools": 2, "prompts": 2, "resources": 0}

    run(main)


def test_a_client_that_ignores_notifications_is_answered_by_what_it_saw(rt, web, mode, monkeypatch):
    async def main():
        async with listed(rt, web, mode) as (client, _, attachment):
            await web.save(LIMITED)
            assert text(await client.call_tool("web.search", {"query": "q"})) == "1.0"
            # Arguments that fit the new version alone come from a caller that knows it.
            assert text(await client.call_tool("web.search", {"query": "q", "limit": 1})) == "2.0"
            await client.list_tools()
            # A call that was on its way while the list was made.
            assert text(await client.call_tool("web.search", {"query": "q"})) == "1.0"
            monkeypatch.setattr("epochal.mcp.answers.GRACE_S", 0.0)
            if mode == "legacy":  # the newer protocol's requests know of no other
                result = await client.call_tool("web.search", {"query": "q"})
                assert "'limit' is missing" in text(result)
            attachment.close()
            result = await client.call_tool("web.search", {"query": "q"})
            assert result.is_error
            assert "'limit' is missing" in text(result)

    run(main)


def test_a_compatible_change_needs_no_old_version(rt, web, mode):
    async def main():
        async with listed(rt, web, mode) as (client, _, _):
            await web.save(OPTIONAL)
            assert text(await client.call_tool("web.search", {"query": "q"})) == "2.0"
        assert not rt.draining

    run(main)


def test_an_error_for_stale_callers_has_the_new_schema_and_is_given_once(rt, web, mode):
    async def main():
        async with listed(rt, web, mode, stale="error") as (client, _, _):
            await web.save(LIMITED)
            result = await client.call_tool("web.search", {"query": "q"})
            assert result.is_error
            assert '"limit": {"type": "integer"}' in text(result)
            assert "of late" in text(result) or "since you listed it" in text(result)
            assert text(await client.call_tool("web.search", {"query": "q", "limit": 1})) == "2.0"
            await rt.aremove("web", drain_timeout=0.0)
            result = await client.call_tool("web.search", {"query": "q", "limit": 1})
            assert "web.search is gone. The tools are now: none" in text(result)
            result = await client.call_tool("web.other", {})
            assert "web.other does not exist" in text(result)
        assert not rt.draining

    run(main)


def test_an_old_version_is_named_as_the_holder(rt, web, mode):
    async def main():
        async with listed(rt, web, mode) as _:
            report = await web.save(LIMITED)
            assert not report.drained
            assert any("for clients that saw it" in str(one) for one in report.holders)

    run(main)


def test_an_old_version_answers_for_a_bounded_time(rt, web, mode):
    async def main():
        async with listed(rt, web, mode, hold=0.05) as (client, _, _):
            await web.save(LIMITED)
            while rt.draining:
                await asyncio.sleep(0.01)
            assert "limit" in text(await client.call_tool("web.search", {"query": "q"}))

    run(main)


def test_an_old_version_is_let_go_on_request_and_by_a_change_that_fails(rt, web, mode):
    async def main():
        class Refuses:
            def check(self, epoch, newcomers):
                raise ValueError("no")

            def finish(self, *, published):
                return ()

        async with listed(rt, web, mode) as (_, _, attachment):
            refuses = Refuses()
            rt.join(refuses)
            with pytest.raises(Exception, match="no"):
                await web.save(LIMITED)
            assert not attachment._superseded.held_versions()
            del refuses
            await web.save(LIMITED, cancel_holders=True, drain_timeout=0.05)
            while rt.draining:
                await asyncio.sleep(0.01)
            assert attachment.announced["tools"] == 1

    run(main)


def test_a_call_under_way_ends_on_its_version(rt, web, mode):
    slow = """
    @tool
    async def slow(n: int) -> AsyncIterator[str]:
        "Yield."
        for i in range(n):
            yield VERSION
            await asyncio.sleep(0)
            progress(i)
            await asyncio.to_thread(gate.wait, 30)

    gate = threading.Event()
    """

    async def main():
        await web.save(slow)
        server, _ = offered(rt)
        begun = asyncio.Event()

        async def on_progress(done, total, message):
            begun.set()

        async with connected(server, mode) as (client, _):
            await client.list_tools()
            gate = names_of(rt, "web.slow")["gate"]
            call = client.call_tool("web.slow", {"n": 3}, progress_callback=on_progress)
            task = asyncio.create_task(call)
            await begun.wait()
            await web.save(SEARCH + slow)
            gate.set()
            result = await task
            assert result.structured_content == {"result": ["1.0"] * 3}
            assert facts(result)["version"] == "1.0"

    run(main)


def test_cancellation_reaches_the_tool(rt, web, mode):
    code = """
    stopped, begun = threading.Event(), threading.Event()

    @tool
    def hang() -> str:
        "Hang."
        begun.set()
        while not cancelled():
            time.sleep(0.001)
        stopped.set()
    """

    async def main():
        await web.save(code)
        server, _ = offered(rt)
        names = names_of(rt, "web.hang")
        async with connected(server, mode) as (client, _):
            task = asyncio.create_task(client.call_tool("web.hang", {}))
            await asyncio.to_thread(names["begun"].wait, 30)
            task.cancel()
            assert await asyncio.to_thread(names["stopped"].wait, 30)

    run(main)


def test_a_tool_that_hangs_is_answered_in_time_and_holds_up_no_other(rt, web, mode):
    code = """
    never = threading.Event()

    @tool(timeout=0.1)
    def hang() -> str:
        "Hang."
        never.wait(30)

    @tool
    def search(query: str) -> str:
        "Find pages."
        return VERSION
    """

    async def main():
        await web.save(code)
        server, _ = offered(rt)
        never = names_of(rt, "web.hang")["never"]
        async with connected(server, mode) as (client, _):
            hanging = [asyncio.create_task(client.call_tool("web.hang", {})) for _ in range(3)]
            assert text(await client.call_tool("web.search", {"query": "q"})) == "1.0"
            for task in hanging:
                result = await task
                assert result.is_error
                assert "did not end within 0.1 s" in text(result)
        never.set()

    run(main)


def test_errors_are_results_that_name_the_argument_or_the_line(rt, web, mode):
    async def main():
        await web.save(
            SEARCH + "\n@tool\nasync def fail() -> int:\n    'Fail.'\n    return 1 / 0\n"
        )
        server, _ = offered(rt)
        async with connected(server, mode) as (client, _):
            result = await client.call_tool("web.search", {"query": 3, "more": 1})
            assert result.is_error
            assert "'query': input should be a valid string, not 3" in text(result)
            assert "'more' is not an argument" in text(result)
            result = await client.call_tool("web.fail", {})
            assert "ZeroDivisionError" in text(result)
            assert "web.py, line" in text(result)
            assert facts(result)["version"] == "1.0"

    run(main)


def test_resources_and_prompts_are_served(rt, web, mode):
    code = """
    @resource(uri="notes://all", mime_type="text/markdown")
    def notes() -> str:
        "All notes."
        return "# Notes"

    @resource(uri="notes://{topic}")
    async def note(topic: str) -> dict:
        "One note."
        if topic == "none":
            raise LookupError(topic)
        return {"topic": topic}

    @resource(uri="data://{n}")
    def data(n: int) -> bytes:
        return bytes(n)

    @prompt(title="Ask")
    def ask(question: str, times: int = 1) -> list:
        "Ask."
        return [{"role": "assistant", "content": "what?"}, question * times]
    """

    async def main():
        await web.save(code)
        server, _ = offered(rt)
        async with connected(server, mode) as (client, _):
            listed = await client.list_resources()
            assert [(one.name, one.uri) for one in listed.resources] == [
                ("web.notes", "notes://all")
            ]
            templates = (await client.list_resource_templates()).resource_templates
            assert {one.uri_template for one in templates} == {"notes://{topic}", "data://{n}"}
            read = await client.read_resource("notes://x")
            assert (read.contents[0].text, read.contents[0].mime_type) == (
                '{"topic":"x"}',
                "application/json",
            )
            assert facts(read)["plugin"] == "web"
            assert (await client.read_resource("data://3")).contents[0].blob == "AAAA"
            for uri, reason in (
                ("notes://none", "LookupError"),
                ("data://x", "'n'"),
                ("x://y", "no x://y"),
            ):
                with pytest.raises(MCPError, match=reason):
                    await client.read_resource(uri)
            (listed_prompt,) = (await client.list_prompts()).prompts
            assert [one.required for one in listed_prompt.arguments] == [True, False]
            got = await client.get_prompt("web.ask", {"question": "q", "times": "2"})
            assert [(one.role, one.content.text) for one in got.messages] == [
                ("assistant", "what?"),
                ("user", "qq"),
            ]
            for name, arguments in (("web.ask", {}), ("web.none", {})):
                with pytest.raises(MCPError):
                    await client.get_prompt(name, arguments)

    run(main)


def test_a_servers_own_tools_stay(rt, web, mode):
    async def main():
        await web.save(SEARCH)
        server = MCPServer("shop")

        @server.tool()
        def own(x: int) -> int:
            "The server's own."
            return x + 1

        @server.resource("own://x")
        def own_resource() -> str:
            return "own"

        attachment = attach(server, rt)
        async with connected(server, mode) as (client, notified):
            assert [one.name for one in (await client.list_tools()).tools] == ["own", "web.search"]
            assert (await client.call_tool("own", {"x": 1})).structured_content == {"result": 2}
            assert text(await client.call_tool("web.search", {"query": "q"})) == "1.0"
            assert (await client.read_resource("own://x")).contents[0].text == "own"
            await web.save(OPTIONAL)
            await notified.wait("tools", 1)
            assert text(await client.call_tool("web.search", {"query": "q", "limit": 2})) == "2.0"
            server.add_tool(lambda: 1, name="later", description="d")
            names = [one.name for one in (await client.list_tools()).tools]
            assert names == ["own", "later", "web.search"]
        assert attachment.announced["tools"] == 1

    run(main)


@pytest.mark.parametrize("separator", [".", "-", "__"])
def test_names_without_a_dot_are_offered_and_understood(rt, web, mode, separator):
    async def main():
        await web.save(SEARCH)
        server, _ = offered(rt, separator=separator)
        async with connected(server, mode) as (client, _):
            (listed,) = (await client.list_tools()).tools
            assert listed.name == f"web{separator}search"
            for name in {listed.name, "web.search", "web-search"}:
                assert text(await client.call_tool(name, {"query": "q"})) == "1.0"

    run(main)


def test_no_client_and_no_list_keeps_an_old_version(rt, web, mode):
    async def main():
        await web.save(SEARCH)
        server, _ = offered(rt)
        report = await web.save(LIMITED)
        assert report.drained  # no client has ever been there
        async with connected(server, mode) as (client, _):
            await client.list_tools()
            await client.call_tool("web.search", {"query": "q", "limit": 1})
            report = await web.save(LIMITED + "# body\n")
            assert report.drained
            assert report.reclaimed, report.leaks

    run(main)


def test_many_changes_under_many_calls_fail_none_and_are_counted(rt, web, mode):
    codes = [SEARCH, OPTIONAL, LIMITED]

    async def main():
        async with listed(rt, web, mode) as (client, notified, attachment):
            stop = asyncio.Event()
            answers = []

            async def caller():
                while not stop.is_set():
                    result = await client.call_tool("web.search", {"query": "q"})
                    assert not result.is_error, text(result)
                    assert text(result) == facts(result)["version"]
                    answers.append(text(result))

            tasks = [asyncio.create_task(caller()) for _ in range(4)]
            for number in range(9):
                while len(answers) <= number:
                    await asyncio.sleep(0)
                await web.save(codes[(number + 1) % 3])
            stop.set()
            await asyncio.gather(*tasks)
            await notified.wait("tools", 9)
            assert len(answers) > 8
        assert notified.counts == {"tools": 9}
        assert attachment.announced["tools"] == 9

    run(main)


def test_many_sessions_are_each_told_once_and_each_answered(rt, web, mode):
    sessions = sized(10, 100)

    async def main():
        await web.save(SEARCH)
        server, attachment = offered(rt)
        async with AsyncExitStack() as stack:
            connect = [connected(server, mode) for _ in range(sessions)]
            clients = [await stack.enter_async_context(one) for one in connect]
            await asyncio.gather(*(client.list_tools() for client, _ in clients))
            await web.save(OPTIONAL)
            await asyncio.gather(*(told.wait("tools", 1) for _, told in clients))
            calls = [client.call_tool("web.search", {"query": "q"}) for client, _ in clients]
            assert {text(one) for one in await asyncio.gather(*calls)} == {"2.0"}
            assert [told.counts for _, told in clients] == [{"tools": 1}] * sessions
        assert attachment.announced["tools"] == 1

    run(main)
