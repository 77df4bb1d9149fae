"""A client that is refused before its body was read sees the answer, also if it sends first."""

import socket
import threading
from http.client import HTTPResponse

import pytest
from tests.server.conftest import ADMIN

BODY = b"x" * (17 << 20)
"""Larger than an upload may be, and than buffers are: it can be sent only if it is read."""

UPLOAD = b"PUT /v1/plugins/geo HTTP/1.1\r\nhost: %s\r\n"
QUERY = b"POST /v1/query HTTP/1.1\r\nhost: %s\r\n"
TOKEN = f"authorization: Bearer {ADMIN}\r\n".encode()
JSON = b"content-type: application/json\r\n"
CLOSE = b"connection: close\r\n"
DECLARED = b"content-length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


def connect(served):
    host, _, port = served.url.removeprefix("http://").partition(":")
    sock = socket.create_connection((host, int(port)), timeout=20)
    return sock, f"{host}:{port}".encode()


def read_status(sock):
    with HTTPResponse(sock) as answer:
        answer.begin()
        answer.read()
        return answer.status


def status_of(served, head, body):
    """The status that a client reads after it has sent everything."""
    sock, authority = connect(served)
    with sock:
        sock.sendall(head % authority + body)
        return read_status(sock)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (UPLOAD + TOKEN + DECLARED, 413),
        (UPLOAD + CLOSE + DECLARED, 401),
        (QUERY + JSON + DECLARED, 413),
        (QUERY + CLOSE + DECLARED, 415),
        (b"POST /nothing HTTP/1.1\r\nhost: %s\r\n" + CLOSE + TOKEN + DECLARED, 404),
    ],
    ids=["upload too large", "upload without token", "query too large", "not JSON", "no such path"],
)
def test_a_client_that_sends_everything_first_sees_the_refusal(start_service, head, status):
    assert status_of(start_service(), head, BODY) == status


def test_a_client_with_a_chunked_body_sees_the_refusal(start_service):
    chunks = b"".join(b"%x\r\n%s\r\n" % (1 << 20, BODY[: 1 << 20]) for _ in range(17))
    head = QUERY + JSON + CHUNKED
    assert status_of(start_service(), head, chunks + b"0\r\n\r\n") == 413


def test_a_refusal_comes_at_once_and_keeps_the_connection(start_service):
    sock, authority = connect(start_service())
    with sock:
        sock.sendall(UPLOAD % authority + DECLARED)
        assert read_status(sock) == 401  # before any of the body was sent
        sock.sendall(BODY + b"GET /healthz HTTP/1.1\r\nhost: %s\r\n\r\n" % authority)
        assert read_status(sock) == 200


def test_an_endless_body_is_not_read_for_ever(start_service, monkeypatch):
    monkeypatch.setattr("epochal.server.front.LINGER_S", 0.2)
    sock, authority = connect(start_service())
    with sock:
        sock.sendall(QUERY % authority + JSON + CHUNKED + b"%x\r\n" % (1 << 40))
        ended = threading.Event()

        def send():
            while not ended.wait(0.001):
                try:
                    sock.sendall(BODY[: 1 << 16])
                except OSError:
                    return

        sender = threading.Thread(target=send)
        sender.start()
        try:
            # The answer, then a reset, since bytes were unread.
            with pytest.raises(ConnectionError):
                while sock.recv(1 << 16):
                    pass
                raise ConnectionError
        finally:
            ended.set()
            sender.join(20)
        assert not sender.is_alive()
