"""The listening socket, and the options that its connections inherit."""

import asyncio
import socket

import pytest

from epochal.errors import HostError
from epochal.server.serve import listen


def accepted(sock):
    """An option of a connection that a server of asyncio accepts on a socket."""

    async def main():
        option = asyncio.get_running_loop().create_future()

        async def handle(_, writer):
            given = writer.get_extra_info("socket")
            option.set_result(given.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(handle, sock=sock):
            _, writer = await asyncio.open_connection(*sock.getsockname()[:2])
            nodelay = await asyncio.wait_for(option, 10)
            writer.close()
            return nodelay

    return asyncio.run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer_in_two_parts_does_not_wait_for_an_acknowledgement(host):
    """Otherwise every answer on a kept connection is some 40 ms late."""
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with listen(host, 0) as sock:
        assert accepted(sock)


def test_an_address_in_use_is_reported_once():
    with listen("127.0.0.1", 0) as sock, pytest.raises(HostError) as caught:
        listen("127.0.0.1", sock.getsockname()[1])
    assert str(caught.value).lower().count("in use") == 1
