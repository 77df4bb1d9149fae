"""Connections that say nothing, too much, or too slowly, and what others see of it."""

import asyncio
import json
import socket
import threading
from http.client import HTTPResponse

import pytest
from tests.server.conftest import ADMIN
from tests.server.test_queries import wait_until_idle

from epochal.events import StoreFaulted
from epochal.server import ServiceLimits
from epochal.server.event_stream import KEPT
from epochal.server.serve import AcceptFaults


def connect(served):
    return socket.create_connection(served.address, timeout=20)


def ask(served, sock, path="/healthz", more=""):
    authority = served.url.removeprefix("http://")
    sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {authority}\r\n{more}\r\n".encode())


def told(sock):
    """The status and the code of an answer."""
    with HTTPResponse(sock) as answer:
        answer.begin()
        return answer.status, json.loads(answer.read()).get("code")


@pytest.fixture
def impatient(start_service, monkeypatch):
    monkeypatch.setattr("epochal.server.connection.HEAD_S", 0.3)
    return start_service(limits=ServiceLimits(stop_s=5.0, body_s=0.3))


def test_a_connection_that_says_nothing_is_closed(impatient):
    with connect(impatient) as sock:
        assert sock.recv(100) == b""


def test_a_head_that_does_not_end_is_answered_and_closed(impatient):
    with connect(impatient) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        assert told(sock) == (408, "late")
        assert sock.recv(100) == b""


def test_a_kept_connection_has_as_long_for_its_next_head(impatient):
    with connect(impatient) as sock:
        ask(impatient, sock)
        assert told(sock) == (200, None)
        sock.sendall(b"\r\n")  # which is no head
        assert sock.recv(100) == b""


def test_a_body_that_does_not_come_is_answered_and_closed(impatient):
    with connect(impatient) as sock:
        authority = impatient.url.removeprefix("http://")
        sock.sendall(
            f"PUT /v1/plugins/geo HTTP/1.1\r\nhost: {authority}\r\n"
            f"authorization: Bearer {ADMIN}\r\ncontent-length: 10\r\n\r\nabc".encode()
        )
        assert told(sock) == (408, "late")


@pytest.mark.parametrize("head", ["x: " + "y" * 70_000, "x: y\r\n" * 20_000], ids=["one", "many"])
@pytest.mark.parametrize("end", ["\r\n\r\n", ""], ids=["whole", "without end"])
def test_a_head_that_is_too_large_is_refused(start_service, head, end):
    served = start_service()
    with connect(served) as sock:
        sock.sendall(f"GET /healthz HTTP/1.1\r\n{head}{end}".encode())
        assert told(sock) == (431, "head-too-large")


def test_what_is_no_request_is_told_so(start_service):
    with connect(start_service()) as sock:
        sock.sendall(b"\x16\x03\x01 is TLS\r\n\r\n")
        assert told(sock) == (400, "request")


def test_idle_connections_make_room_the_longest_idle_first(start_service):
    served = start_service(limits=ServiceLimits(connections=3, stop_s=5.0))
    idle = [connect(served) for _ in range(3)]
    ask(served, idle[0])  # it is not the longest idle any more
    assert told(idle[0]) == (200, None)
    with connect(served) as sock:
        ask(served, sock)
        assert told(sock) == (200, None)
        ask(served, idle[0])
        assert told(idle[0]) == (200, None)
    for one in idle:
        one.close()


def test_where_all_connections_are_at_work_who_comes_is_told_so(start_service):
    served = start_service(limits=ServiceLimits(connections=2, stop_s=5.0))
    followers = [connect(served) for _ in range(2)]
    for one in followers:
        ask(served, one, "/v1/events")
        assert one.recv(15) == b"HTTP/1.1 200 OK"
    with connect(served) as sock:
        assert told(sock) == (503, "busy")
    for one in followers:
        one.close()


def test_a_follower_that_does_not_read_is_let_go(start_service, monkeypatch):
    monkeypatch.setattr("epochal.server.responses.READ_S", 0.3)
    served = start_service()
    feed = served.service.feed
    for number in range(KEPT):
        feed.add(StoreFaulted(error=f"{number} " + "x" * 5_000))
    with connect(served) as sock:
        ask(served, sock, "/v1/events")
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
        nothing = threading.Event()
        for _ in range(200):
            if not feed.followers:
                break
            nothing.wait(0.05)
        assert not feed.followers


def test_requests_behind_one_do_not_hide_that_the_client_left(served):
    inside, go_on = served.events()
    body = json.dumps({"sql": "SELECT geo.slow(1)"})
    authority = served.url.removeprefix("http://")
    one = (
        f"POST /v1/query HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    )
    with connect(served) as sock:
        sock.sendall(one.encode())
        assert inside.wait(10)
        sock.sendall(one.encode() * 3)
    assert wait_until_idle(served)
    go_on.set()


def test_requests_behind_one_are_answered_in_order(served):
    with connect(served) as sock:
        for path in ("/healthz", "/v1/plugins/none", "/healthz") * 5:
            ask(served, sock, path)
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 15:
            answers += sock.recv(1 << 16)
    statuses = [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"] * 5


def test_that_nothing_can_be_accepted_is_logged_once(caplog):
    async def main():
        loop, handler = asyncio.get_running_loop(), AcceptFaults()
        context = {
            "message": "socket.accept() out of system resource",
            "exception": OSError(24, "Too many open files"),
        }
        for _ in range(100):
            handler(loop, context)

    asyncio.run(main())
    assert len(caplog.records) == 1
    assert "Too many open files" in caplog.text
