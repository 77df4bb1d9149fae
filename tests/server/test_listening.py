"""The listening socket, and the options that its connections inherit."""

import asyncio
import socket
import stat

import pytest

from epochal.errors import HostError
from epochal.server.security import authorities_of
from epochal.server.serve import listen, listen_locally, url_of


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


def test_a_unix_socket_is_its_owners_and_replaces_a_dead_one(tmp_path):
    path = tmp_path / "e.sock"
    with listen_locally(path) as sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert url_of(sock) == f"unix:{path}"
        assert authorities_of(sock, ["sql.example.org"]) == {"localhost", "sql.example.org"}
        with pytest.raises(HostError, match="another process listens"):
            listen_locally(path)
    with listen_locally(path):  # the first one is closed, and its file is left
        pass
    with pytest.raises(HostError, match="cannot listen on"):
        listen_locally(tmp_path / "no" / "e.sock")


def test_a_path_prefix_is_taken_off_whether_the_proxy_did_or_not(start_service):
    served = start_service(root_path="/sql")
    for path in ("/v1/status", "/sql/v1/status", "/sql/", "/", "/sql/page/main.js"):
        assert served.http.get(path).status_code == 200, path
    assert served.http.get("/sql").headers["location"] == "/sql/"
    assert served.http.get("/sqlx/v1/status").status_code == 404
    # The right is that of the path without the prefix.
    assert served.http.post("/sql/v1/plugins/geo/reload").status_code == 401
    assert served.http.put("/sql/healthz").status_code == 401
