"""The tools with which a client proposes plugins: there if granted, and bound to its session."""

import asyncio

import pytest
from mcp import Client
from tests.unit.authoring.test_authoring import shop
from tests.unit.mcp.support import MODES, close_all, connected, offered, text

from epochal import Runtime
from epochal.authoring import Authoring
from epochal.authoring.trial import Trial

MADE = {"source": shop(), "test": "x = 1", "reason": "asked for twice"}
NAMES = ["tools.propose", "tools.publish", "tools.rollback"]


@pytest.fixture
def rt(monkeypatch):
    monkeypatch.setattr(Trial, "run", lambda *_: ("shop.price",))
    with Runtime(drain_timeout=5) as runtime:
        yield runtime
        close_all()


async def names_of(client):
    return [one.name for one in (await client.list_tools()).tools]


@pytest.mark.parametrize("mode", MODES)
def test_a_client_writes_publishes_and_takes_back_a_tool(rt, mode):
    approved = set()
    authoring = Authoring(rt, lambda one: "ann" if one.fingerprint in approved else None)
    server, attachment = offered(rt, authoring=authoring, stale="error")

    async def main():
        async with asyncio.timeout(60), connected(server, mode) as (client, told):
            assert await names_of(client) == NAMES
            made = await client.call_tool("tools.propose", MADE)
            facts = made.structured_content
            assert "+    return 4" in text(made)
            assert facts["tools"] == ["shop.price"]
            handle = {"proposal": facts["proposal"]}
            refused = await client.call_tool("tools.publish", handle)
            assert refused.is_error
            assert "not approved" in text(refused)
            approved.add(facts["fingerprint"])
            assert not (await client.call_tool("tools.publish", handle)).is_error
            await told.wait("tools", 1)
            assert await names_of(client) == [*NAMES, "shop.price"]
            called = await client.call_tool("shop.price", {"item": "tea"})
            assert called.structured_content == {"result": 4}
            assert not (await client.call_tool("tools.rollback", handle)).is_error
            assert await names_of(client) == NAMES

    asyncio.run(main())
    assert attachment.announced["tools"] == 2


def test_another_session_cannot_publish_a_proposal(rt):
    server, _ = offered(rt, authoring=Authoring(rt, lambda _: "policy"))

    async def main():
        async with (
            asyncio.timeout(60),
            Client(server, mode="legacy") as one,
            Client(server, mode="legacy") as two,
        ):
            made = await one.call_tool("tools.propose", MADE)
            handle = {"proposal": made.structured_content["proposal"]}
            refused = await two.call_tool("tools.publish", handle)
            assert refused.is_error
            assert "no such proposal of this session" in text(refused)
            assert not rt.epoch.generations
            assert not (await one.call_tool("tools.publish", handle)).is_error

    asyncio.run(main())


def test_authoring_is_off_unless_it_is_granted(rt):
    """Also where a server of the same runtime grants it."""
    granted, _ = offered(rt, authoring=Authoring(rt, lambda _: "policy"))
    plain, _ = offered(rt)
    dashed, _ = offered(rt, separator="-", authoring=Authoring(rt, lambda _: "policy"))

    async def main():
        async with (
            asyncio.timeout(60),
            Client(granted) as one,
            Client(plain) as two,
            Client(dashed) as three,
        ):
            assert await names_of(one) == NAMES
            assert await names_of(two) == []
            assert await names_of(three) == [name.replace(".", "-") for name in NAMES]
            refused = await two.call_tool("tools.propose", MADE)
            assert "does not exist" in text(refused)
            assert not (await three.call_tool("tools-propose", MADE)).is_error

    asyncio.run(main())


def test_arguments_that_do_not_fit_are_named(rt):
    server, _ = offered(rt, authoring=Authoring(rt, lambda _: "policy"))

    async def main():
        async with asyncio.timeout(60), Client(server) as client:
            refused = await client.call_tool("tools.propose", {"source": 1, "code": "x"})
            assert refused.is_error
            for fault in ("test is missing", "code is not known", "source is text"):
                assert fault in text(refused)

    asyncio.run(main())
