"""Silent, slow and greedy connections, and the answers that others get meanwhile."""

import asyncio
import json
import socket
import struct
import threading
from http.client import HTTPResponse
from queue import SimpleQueue

import pyarrow as pa
import pytest
from tests.server.conftest import ADMIN
from tests.server.test_queries import wait_until_idle

from epochal.events import StoreFaulted
from epochal.server import ServiceLimits
from epochal.server.connection import Connection
from epochal.server.event_stream import KEPT
from epochal.server.responses import _DisconnectWatch, render_fields
from epochal.server.serve import AcceptFaults


def connect(served):
    return socket.create_connection(served.address, timeout=20)


def ask(served, sock, path="/healthz", more=""):
    authority = served.url.removeprefix("http://")
    sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {authority}\r\n{more}\r\n".encode())


def read_answer(sock):
    """The status and the code of an answer."""
    with HTTPResponse(sock) as answer:
        answer.begin()
        return answer.status, json.loads(answer.read()).get("code")


@pytest.fixture
def impatient(start_service, monkeypatch):
    monkeypatch.setattr("epochal.server.connection.HEAD_S", 0.3)
    return start_service(limits=ServiceLimits(stop_s=5.0, body_s=0.3))


def test_a_silent_connection_is_closed(impatient):
    with connect(impatient) as sock:
        assert sock.recv(100) == b""


def test_an_endless_head_is_answered_408_and_closed(impatient):
    with connect(impatient) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        assert read_answer(sock) == (408, "late")
        assert sock.recv(100) == b""


def test_the_head_timeout_holds_for_each_request(impatient):
    with connect(impatient) as sock:
        ask(impatient, sock)
        assert read_answer(sock) == (200, None)
        sock.sendall(b"\r\n")  # not a head
        assert sock.recv(100) == b""


def test_a_late_body_is_answered_408(impatient):
    with connect(impatient) as sock:
        authority = impatient.url.removeprefix("http://")
        sock.sendall(
            f"PUT /v1/plugins/geo HTTP/1.1\r\nhost: {authority}\r\n"
            f"authorization: Bearer {ADMIN}\r\ncontent-length: 10\r\n\r\nabc".encode()
        )
        assert read_answer(sock) == (408, "late")


@pytest.mark.parametrize("head", ["x: " + "y" * 70_000, "x: y\r\n" * 20_000], ids=["one", "many"])
@pytest.mark.parametrize("end", ["\r\n\r\n", ""], ids=["whole", "without end"])
def test_a_large_head_is_answered_431(start_service, head, end):
    served = start_service()
    with connect(served) as sock:
        sock.sendall(f"GET /healthz HTTP/1.1\r\n{head}{end}".encode())
        assert read_answer(sock) == (431, "head-too-large")


def test_bytes_that_are_not_http_are_answered_400(start_service):
    with connect(start_service()) as sock:
        sock.sendall(b"\x16\x03\x01 is TLS\r\n\r\n")
        assert read_answer(sock) == (400, "request")


def test_the_longest_idle_connection_makes_room(start_service):
    served = start_service(limits=ServiceLimits(connections=3, stop_s=5.0))
    idle = [connect(served) for _ in range(3)]
    ask(served, idle[0])  # now another one is the longest idle
    assert read_answer(idle[0]) == (200, None)
    with connect(served) as sock:
        ask(served, sock)
        assert read_answer(sock) == (200, None)
        ask(served, idle[0])
        assert read_answer(idle[0]) == (200, None)
    for sock in idle:
        sock.close()


def test_a_connection_is_answered_503_when_none_is_idle(start_service):
    served = start_service(limits=ServiceLimits(connections=2, stop_s=5.0))
    followers = [connect(served) for _ in range(2)]
    for follower in followers:
        ask(served, follower, "/v1/events")
        assert follower.recv(15) == b"HTTP/1.1 200 OK"
    with connect(served) as sock:
        assert read_answer(sock) == (503, "busy")
    for follower in followers:
        follower.close()


def test_a_follower_that_does_not_read_is_disconnected(start_service, monkeypatch):
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


def test_an_idle_connection_is_closed_after_its_last_answer(start_service, monkeypatch):
    monkeypatch.setattr("epochal.server.serve._KEEP_ALIVE_S", 0.1)
    served = start_service()
    with connect(served) as sock:
        for _ in range(2):
            ask(served, sock, "/healthz")
            assert b"HTTP/1.1 200" in sock.recv(1 << 16)
        assert sock.recv(1 << 16) == b""


def test_pipelined_requests_do_not_hide_a_disconnect(served, monkeypatch):
    watched, begin = threading.Event(), _DisconnectWatch._begin

    def begin_and_tell(self):
        begin(self)
        watched.set()

    monkeypatch.setattr(_DisconnectWatch, "_begin", begin_and_tell)
    inside, go_on = served.events()
    body = json.dumps({"sql": "SELECT geo.slow(1)"})
    authority = served.url.removeprefix("http://")
    request = (
        f"POST /v1/query HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    )
    with connect(served) as sock:
        sock.sendall(request.encode())
        assert inside.wait(10)
        assert watched.wait(10)  # it reads on by itself; what comes later must not stop that
        sock.sendall(request.encode() * 3)
    assert wait_until_idle(served)
    go_on.set()


def test_a_client_that_leaves_during_a_long_answer_is_not_written_to(start_service, caplog):
    served = start_service(limits=ServiceLimits(stop_s=5.0, answer_bytes=32 << 20))
    served.service.database.register("t", pa.table({"x": ["x" * 1000] * 10_000}))
    content = json.dumps({"sql": "SELECT x FROM t"})
    head = (
        f"POST /v1/query HTTP/1.1\r\nhost: {served.url.removeprefix('http://')}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    for _ in range(3):
        with connect(served) as sock:
            reset = struct.pack("ii", 1, 0)  # its end overtakes what it has not read
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            sock.sendall((head + content).encode())
            assert sock.recv(10)
    assert wait_until_idle(served)
    served.stop()
    assert "socket.send() raised exception" not in caplog.text


def test_pipelined_requests_are_answered_in_order(served):
    with connect(served) as sock:
        for path in ("/healthz", "/v1/plugins/none", "/healthz") * 5:
            ask(served, sock, path)
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 15:
            answers += sock.recv(1 << 16)
    statuses = [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"] * 5


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("body", ["whole", "chunked", "late"])
def test_a_request_that_asks_for_another_protocol_is_answered_in_this_one(served, protocol, body):
    authority = served.url.removeprefix("http://")
    hidden = f"GET /healthz HTTP/1.1\r\nhost: {authority}\r\n\r\n"  # no request: it is in a body
    content = json.dumps({"sql": "SELECT 1 AS a", "more": hidden})
    size = f"{len(content):x}\r\n"
    head = (
        f"POST /v1/query HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n"
        f"Connection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n"
    )
    if body == "chunked":
        head, content = f"{head}transfer-encoding: chunked\r\n\r\n{size}", f"{content}\r\n0\r\n\r\n"
    else:
        head += f"content-length: {len(content)}\r\n\r\n"
    with connect(served) as sock:
        pieces = [head, content] * 2 if body == "late" else [(head + content) * 2]
        for piece in pieces:
            sock.sendall(piece.encode())
        ask(served, sock, "/v1/plugins/none")
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 3:
            more = sock.recv(1 << 16)
            assert more
            answers += more
    statuses = [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"400", b"400", b"404"]
    assert answers.count(b"unknown field `more`") == 2


def test_accept_failures_are_logged_once_a_minute(caplog):
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


# --- one piece -----------------------------------------------------------------------------------


def test_a_whole_answer_is_written_in_one_piece(served, monkeypatch):
    written, original = SimpleQueue(), Connection.write_whole

    def write_whole(self, *answer):
        is_written = original(self, *answer)
        written.put(is_written)  # the client may have its answer by now
        return is_written

    monkeypatch.setattr(Connection, "write_whole", write_whole)
    answer = served.query("SELECT 1 AS x")
    assert answer.json()["rows"] == [[1]]
    assert written.get(timeout=20)
    assert answer.headers["content-security-policy"]
    assert answer.headers["date"]
    assert served.http.head("/healthz").status_code == 200  # has a length, and no body
    assert served.http.get("/metrics").status_code == 200
    assert written.get(timeout=20)
    assert written.empty()


def test_a_bad_header_is_left_to_the_server(served, monkeypatch):
    refused = []
    original = Connection.write_whole

    def write_whole(self, status, fields, body):
        refused.append(original(self, status, render_fields([(b"x", b"a\r\nset-cookie: b")]), body))
        return original(self, status, fields, body)

    monkeypatch.setattr(Connection, "write_whole", write_whole)
    assert "set-cookie" not in served.query("SELECT 1").headers
    assert refused == [False]
