"""Tokens, origins and sessions, and the limits of uploads."""

import asyncio
import gzip
import io
import logging
import random
import socket
import stat
import tarfile
import zipfile

import pytest
from starlette.requests import Request
from tests.server.conftest import ADMIN, GEO, QUERY

from epochal.errors import ArtifactError, HostError
from epochal.server.decoding import read_body
from epochal.server.problem_details import Problem
from epochal.server.security import KEY_HEADER, Right, right_needed
from epochal.server.tokens import read_tokens
from epochal.server.uploads import read_upload

CHANGES = [
    ("PUT", "/v1/plugins/geo"),
    ("DELETE", "/v1/plugins/geo"),
    ("POST", "/v1/plugins/geo/reload"),
    ("POST", "/v1/plugins/geo/rollback"),
    ("POST", "/v1/epochs/1/rollback"),
    ("POST", "/v1/plugins:check"),
    ("POST", "/v1/session"),
    ("DELETE", "/v1/session"),
]


# --- tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_change_needs_the_admin_token(served, method, path):
    for token in ("", "Bearer wrong", f"Bearer {ADMIN}x", f"Basic {ADMIN}", ADMIN):
        headers = {"authorization": token} if token else {}
        answer = served.http.request(method, path, headers=headers)
        code = "wrong-token" if token.startswith("Bearer ") else "token"
        assert (answer.status_code, answer.json()["code"]) == (401, code), token
    assert served.service.runtime.epoch.number == 1


def test_an_unknown_route_needs_the_highest_right():
    assert right_needed("PATCH", "/v1/whatever") is Right.CHANGE
    assert right_needed("POST", "/") is Right.CHANGE
    assert right_needed("GET", "/v1/whatever") is Right.READ


def test_with_a_query_token_reads_need_one(start_service):
    served = start_service(query_token=QUERY)
    assert served.http.get("/v1/plugins").status_code == 401
    assert served.query("SELECT 1").status_code == 401
    assert served.http.get("/metrics").status_code == 401
    assert served.http.get("/healthz").status_code == 200
    headers = {"authorization": f"Bearer {QUERY}"}
    assert served.http.get("/v1/plugins", headers=headers).status_code == 200
    answer = served.http.delete("/v1/plugins/geo", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "right")
    assert served.admin.get("/v1/plugins").status_code == 200


def test_no_token_is_ever_logged(served, caplog):
    with caplog.at_level(logging.DEBUG):
        served.put_geo("2.0")
        served.http.post("/v1/session", headers={"authorization": "Bearer wrong-secret-token"})
        served.admin.post("/v1/session")
    ours = [record for record in caplog.records if record.name.startswith(("epochal", "uvicorn"))]
    logged = "\n".join(str(vars(record)) for record in ours) + repr(served.access)
    for secret in (ADMIN, "wrong-secret-token", served.access.key, served.access.cookie):
        assert secret not in logged


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_beyond_loopback_both_rights_need_a_token(host):
    both = {"EPOCHAL_ADMIN_TOKEN": ADMIN, "EPOCHAL_QUERY_TOKEN": QUERY}
    assert read_tokens(host, both).query == QUERY
    for missing in both:
        rest = {name: token for name, token in both.items() if name != missing}
        with pytest.raises(HostError, match=missing):
            read_tokens(host, rest)


def test_on_loopback_the_admin_token_is_generated_and_queries_need_none():
    first, second = read_tokens("127.0.0.1", {}), read_tokens("localhost", {})
    assert first.is_generated
    assert first.query is None
    assert len(first.admin) >= 32
    assert first.admin != second.admin
    assert first.admin not in repr(first)


@pytest.mark.parametrize("token", ["", "short", "with spaces in the middle of it", "é" * 20])
def test_an_invalid_token_is_refused(token):
    with pytest.raises(HostError, match="expected 16 or more"):
        read_tokens("127.0.0.1", {"EPOCHAL_ADMIN_TOKEN": token})


def test_equal_tokens_are_refused():
    with pytest.raises(HostError, match="equal"):
        read_tokens("127.0.0.1", {"EPOCHAL_ADMIN_TOKEN": ADMIN, "EPOCHAL_QUERY_TOKEN": ADMIN})


def test_a_token_file_takes_precedence_over_the_environment(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{ADMIN}\n")
    assert read_tokens("127.0.0.1", {"EPOCHAL_ADMIN_TOKEN": "x" * 20}, path).admin == ADMIN
    with pytest.raises(HostError, match="cannot be read"):
        read_tokens("127.0.0.1", {}, tmp_path / "none")


# --- browsers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.1:1"])
def test_a_foreign_host_is_refused_whatever_the_token(served, host):
    answer = served.admin.get("/v1/plugins", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "unknown-host")


@pytest.mark.parametrize("host", ["10.0.0.7:8000", "127.0.0.1:1", "[::1]:9", "192.0.2.7"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_may_give_an_address(served, path, host):
    """Docker's and Kubernetes' probes know the container by its address alone."""
    assert served.http.get(path, headers={"host": host}).status_code == 200
    assert served.http.get("/v1/plugins", headers={"host": host}).status_code == 421
    for foreign in ("evil.example", "127.0.0.1.evil.example:80", "", "[evil]"):
        assert served.http.get(path, headers={"host": foreign}).status_code == 421


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://"]
)
def test_a_foreign_origin_is_refused_whatever_the_token(served, origin):
    for answer in (
        served.put_geo("2.0", headers={"origin": origin}),
        served.http.post("/v1/query", json={"sql": "SELECT 1"}, headers={"origin": origin}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "origin")
    assert served.service.runtime.epoch.number == 1


def test_a_page_of_another_site_cannot_read(served):
    answer = served.http.get("/v1/plugins", headers={"sec-fetch-site": "cross-site"})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin")


def test_no_answer_lets_another_origin_read_it(served):
    headers = served.http.get("/v1/plugins", headers={"origin": served.url}).headers
    assert "access-control-allow-origin" not in headers
    assert "default-src 'none'" in headers["content-security-policy"]


def session(served):
    answer = served.http.post("/v1/session", headers={"authorization": f"Bearer {ADMIN}"})
    cookie = answer.headers["set-cookie"]
    return cookie, answer.json()["key"]


def test_the_pages_session_needs_cookie_key_and_origin(served):
    cookie, key = session(served)
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert ADMIN not in cookie + key
    served.http.cookies.clear()
    pair = {"cookie": cookie.partition(";")[0]}
    own = {"origin": served.url}
    path = "/v1/plugins/geo/reload"
    for headers in (
        pair,
        {KEY_HEADER: key, **own},
        {**pair, **own},
        {**pair, KEY_HEADER: key},
        {**pair, **own, KEY_HEADER: key[:-1] + "x"},
    ):
        assert served.http.post(path, headers=headers).status_code == 401, headers
    whole = {**pair, **own, KEY_HEADER: key}
    assert served.http.post(path, headers=whole).status_code == 200
    assert served.http.get("/v1/session", headers=whole).json()["rights"] == ["read", "change"]
    assert served.http.get("/v1/session").json()["rights"] == ["read"]


# --- uploads -----------------------------------------------------------------------------------

MOST = 100_000


def zipped(*entries):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return sink.getvalue()


def tarred(*entries):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return sink.getvalue()


def tar_entry(name, size=0, kind=tarfile.REGTYPE, link=""):
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = size, kind, link
    return entry


def zip_link():
    entry = zipfile.ZipInfo("geo/__init__.py")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(zipped(("../geo.py", "x")), "not a path inside", id="zip up"),
        pytest.param(zipped(("geo/../../x.py", "x")), "not a path inside", id="zip up from inside"),
        pytest.param(zipped(("/etc/geo.py", "x")), "not a path inside", id="zip absolute"),
        pytest.param(zipped(("C:\\geo.py", "x")), "not a path inside", id="zip drive"),
        pytest.param(zipped(("geo\\..\\x.py", "x")), "not a path inside", id="zip backslashes"),
        pytest.param(zipped((zip_link(), "/etc/passwd")), "link or device", id="zip link"),
        pytest.param(
            zipped(("geo/__init__.py", ""), ("geo/fast.so", "")),
            "compiled extension",
            id="zip compiled",
        ),
        pytest.param(
            zipped(("a.py", ""), ("b.py", "")), "neither one plugin", id="zip two modules"
        ),
        pytest.param(zipped(), "neither one plugin", id="zip empty"),
        pytest.param(tarred(tar_entry("../geo.py", 1)), "not a path inside", id="tar up"),
        pytest.param(tarred(tar_entry("/geo.py", 1)), "not a path inside", id="tar absolute"),
        pytest.param(
            tarred(tar_entry("geo.py", 0, tarfile.SYMTYPE, "/etc/passwd")),
            "link or device",
            id="tar link",
        ),
        pytest.param(
            tarred(tar_entry("geo.py", 0, tarfile.LNKTYPE, "/etc/passwd")),
            "link or device",
            id="tar hard link",
        ),
        pytest.param(
            tarred(tar_entry("geo.py", 0, tarfile.FIFOTYPE)), "link or device", id="tar pipe"
        ),
        pytest.param(
            tarred(tar_entry("geo.py", 0, tarfile.CHRTYPE)), "link or device", id="tar device"
        ),
        pytest.param(tarred(tar_entry("geo.py", 1))[:-20], "cannot be read", id="tar cut off"),
        pytest.param(zipped(("geo.py", "x" * 50))[:-5], "cannot be read", id="zip cut off"),
    ],
)
def test_a_malicious_archive_is_refused(content, reason):
    with pytest.raises(ArtifactError, match=reason):
        read_upload(content, "geo", unpacked_bytes=MOST)


ZIPS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.mark.parametrize("compression", [*ZIPS, None], ids=["as is", "zlib", "bzip2", "xz", "tar"])
def test_an_archive_damaged_anywhere_is_refused(compression):
    """Bytes that are set to zero or flipped in any place: taken, or refused by name."""
    if compression is None:
        content = gzip.decompress(tarred(tar_entry("geo/__init__.py", 3_000)))
    else:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", compression) as archive:
            archive.writestr("geo/__init__.py", "X = 1\n" * 500)
            archive.writestr("geo/plugin.toml", 'id = "geo"\nversion = "1"\n')
        content = sink.getvalue()
    refused = 0
    draw = random.Random(2026)
    # Every place of the first bytes and of the directory at the end, and some between.
    places = {*range(200), *range(len(content) - 300, len(content))}
    places.update(draw.randrange(len(content)) for _ in range(300))
    for place in places:
        for damage in (b"\0" * 2, b"\0" * 30, bytes([content[place] ^ 0xFF])):
            damaged = content[:place] + damage + content[place + len(damage) :]
            if compression is None:
                damaged = gzip.compress(damaged, 1)
            try:
                read_upload(damaged, "geo", unpacked_bytes=MOST)
            except (ArtifactError, Problem) as error:
                refused += 1
                assert str(error)  # noqa: PT017  being taken is fine too
    assert refused > 100


@pytest.mark.parametrize(
    "content",
    [
        zipped(("geo.py", "x" * (MOST + 1))),
        zipped(*[(f"geo/{n}.py", "x" * 20_000) for n in range(6)]),
        tarred(*[tar_entry(f"geo/{n}.py", 20_000) for n in range(6)]),
        gzip.compress(b"\0" * (3 * MOST + (1 << 17))),
        zipped(*[(f"geo/{n}.py", "") for n in range(10_001)]),
    ],
    ids=["zip", "many", "tar", "headers", "files"],
)
def test_a_bomb_is_refused_by_its_unpacked_size(content):
    assert len(content) < 2_000_000
    with pytest.raises(Problem, match="more than"):
        read_upload(content, "geo", unpacked_bytes=MOST)


def test_a_large_upload_is_refused_by_its_declared_size(served):
    head = (
        f"PUT /v1/plugins/geo HTTP/1.1\r\nHost: {served.url[7:]}\r\n"
        f"Authorization: Bearer {ADMIN}\r\nContent-Length: {17 << 20}\r\n\r\n"
    )
    host, port = served.url[7:].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(head.encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_an_upload_without_a_size_is_limited_as_it_arrives():
    taken = 0

    async def receive():
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"#" * 1000, "more_body": True}

    request = Request({"type": "http", "method": "PUT", "headers": []}, receive)
    with pytest.raises(Problem, match="more than 10,000 bytes"):
        asyncio.run(read_body(request, 10_000))
    assert taken == 11


def test_a_wheel_is_a_package_without_its_records():
    content = zipped(
        ("geo/__init__.py", GEO.format(version="1")),
        ("geo/more.py", "x = 1"),
        ("geo/__pycache__/more.cpython-311.pyc", "x"),
        ("geo-1.dist-info/RECORD", ""),
    )
    artifact = read_upload(content, "geo", unpacked_bytes=MOST)
    assert sorted(artifact.files) == ["__init__.py", "more.py"]
