"""`POST /v1/query`: answers name the code that computed them, errors the field at fault."""

import json
import socket
import threading
from contextlib import suppress

import httpx
import pyarrow as pa
import pytest

from epochal import examples
from epochal.server import ServiceLimits
from epochal.server.query_routes import ARROW
from epochal.server.schemas import encode
from epochal.sql.planning_threads import PlanningThreads


def wait_until_idle(served):
    """Wait until no query runs, for less time than `slow` takes; returns whether none runs."""
    idle = threading.Event()
    for _ in range(80):
        if not served.http.get("/v1/status").json()["running"]:
            return True
        idle.wait(0.05)
    return False


def test_an_answer_names_the_code_that_computed_it(served):
    answer = served.query("SELECT geo.version(1) AS v, 2.5 AS x, NULL AS nothing").json()
    assert [column["name"] for column in answer["columns"]] == ["v", "x", "nothing"]
    assert answer["rows"] == [["1.0", 2.5, None]]
    epoch = served.service.runtime.epoch
    assert answer["epoch"] == {"number": epoch.number, "id": epoch.id}
    (provenance,) = answer["provenance"]
    generation = epoch.generation("geo")
    assert provenance == {
        "plugin": "geo",
        "version": "1.0",
        "digest": generation.digest,
        "generation": generation.number,
        "functions": ["geo.version"],
    }


def test_a_column_names_its_data_type(served):
    served.service.runtime.load(examples.path("geo_types"))
    sql = "SELECT geo_types.at(1, 2) AS place, 1 AS n"
    place, number = served.query(sql).json()["columns"]
    assert place["type"] == "struct<lat: double, lon: double>"
    assert place["extension"] == {
        "name": "geo_types.point",
        "metadata": '{"datum": "WGS84", "unit": "degree"}',
    }
    assert number == {"name": "n", "type": "BIGINT"}
    with served.service.database.query(sql) as result:
        served.service.database.register("places", result.to_table())
    (listed,) = served.http.get("/v1/catalog").json()["tables"]
    assert listed["columns"] == [place, number]


def test_every_answer_of_the_api_names_the_epoch(served):
    for path in ("/v1/plugins", "/v1/status", "/v1/nothing", "/v1/plugins/none"):
        headers = served.http.get(path).headers
        assert headers["epochal-epoch"] == "1"
        assert headers["epochal-epoch-id"] == served.service.runtime.epoch.id


def test_parameters_are_bound_as_values(served, people):
    served.service.database.register("people", people)
    by_place = served.query("SELECT age FROM people WHERE name = $1", params=["Ada"])
    assert by_place.json()["rows"] == [[36]]
    by_name = served.query("SELECT $name AS n", params={"name": "'; DROP TABLE people; --"})
    assert by_name.json()["rows"] == [["'; DROP TABLE people; --"]]


def test_an_arrow_answer_has_the_facts_in_its_metadata(served, people):
    served.service.database.register("people", people)
    answer = served.http.post(
        "/v1/query",
        json={"sql": "SELECT name, geo.version(1) AS v FROM people"},
        headers={"accept": ARROW},
    )
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column("v").to_pylist() == ["1.0"] * 3
    facts = table.schema.metadata
    assert facts[b"epochal.epoch.number"] == b"1"
    assert json.loads(facts[b"epochal.provenance"])[0]["version"] == "1.0"


def test_an_arrow_answer_without_rows_is_whole(served, people):
    served.service.database.register("people", people)
    asked = {"sql": "SELECT name FROM people WHERE age > 100"}
    answer = served.http.post("/v1/query", json=asked, headers={"accept": ARROW})
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.num_rows == 0
    assert table.schema.names == ["name"]


@pytest.mark.parametrize(("limit", "rows"), [(2, 2), (3, 3), (0, 0), (None, 3)])
def test_a_small_arrow_answer_is_sent_as_a_whole(served, limit, rows):
    names = ["Ada", "Bob", "Cem"]
    served.service.database.register("people", pa.table({"name": names, "age": [36, 45, 27]}))
    asked = {"sql": "SELECT name FROM people WHERE age > $1", "params": [1], "limit": limit}
    asked = {name: value for name, value in asked.items() if value is not None}
    for _ in range(3):  # the plan is kept, and what its answers have in common
        answer = served.http.post("/v1/query", json=asked, headers={"accept": ARROW})
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["epochal-epoch"] == "1"
        reader = pa.ipc.open_stream(answer.content)
        batch, facts = reader.read_next_batch_with_custom_metadata()
        assert batch.column("name").to_pylist() == names[:rows]
        assert (facts == {b"epochal.truncated": b"true"}) is (rows < 3)
        assert reader.schema.metadata[b"epochal.epoch.number"] == b"1"
        with pytest.raises(StopIteration):
            reader.read_next_batch()


def test_an_arrow_answer_that_fails_has_its_status(served):
    served.service.database.register("people", pa.table({"name": ["Ada"]}))
    for sql in ("SELECT CAST(name AS INT) FROM people", "SELECT nothing FROM people"):
        asked = {"sql": sql}
        answer = served.http.post("/v1/query", json=asked, headers={"accept": ARROW})
        assert (answer.status_code, answer.json()["code"]) == (400, "query")


@pytest.mark.parametrize(("limit", "rows"), [(2, 2), (3, 3), (0, 0), (None, 3)])
def test_a_row_limit_truncates(served, people, limit, rows):
    served.service.database.register("people", people)
    answer = served.query("SELECT * FROM people", limit=limit).json()
    assert len(answer["rows"]) == rows
    assert answer["truncated"] is (rows < 3)


def test_a_request_cannot_raise_the_services_row_limit(start_service, people):
    served = start_service(limits=ServiceLimits(rows=1, stop_s=5.0))
    served.service.database.register("people", people)
    answer = served.query("SELECT * FROM people", limit=100).json()
    assert len(answer["rows"]) == 1
    assert answer["truncated"]


WIDE = f"SELECT '{'x' * 100_000}' AS x, random() AS y FROM generate_series(1, 500)"


def test_a_byte_limit_truncates_json(start_service):
    served = start_service(limits=ServiceLimits(answer_bytes=5_000_000, stop_s=5.0))
    answer = served.query(WIDE).json()
    assert answer["truncated"]
    assert len(answer["rows"]) == 49
    small = served.query("SELECT 1 AS one").json()
    assert (small["rows"], small["truncated"]) == ([[1]], False)


def test_a_byte_limit_truncates_arrow_after_the_chunk_that_reaches_it(start_service):
    served = start_service(limits=ServiceLimits(answer_bytes=5_000_000, stop_s=5.0))
    answer = served.http.post("/v1/query", json={"sql": WIDE}, headers={"accept": ARROW})
    reader = pa.ipc.open_stream(answer.content)
    batches, facts = [], None
    while facts is None:
        batch, facts = reader.read_next_batch_with_custom_metadata()
        batches.append(batch)
    assert facts[b"epochal.truncated"] == b"true"
    assert 40 <= sum(batch.num_rows for batch in batches) <= 60
    with pytest.raises(StopIteration):
        reader.read_next_batch()


def test_a_client_that_does_not_read_holds_no_plugin(start_service):
    served = start_service(limits=ServiceLimits(query_s=1.0, stop_s=5.0))
    served.put_geo("1.0")
    sql = f"{WIDE} WHERE geo.version(value) = '1.0'"
    body = json.dumps({"sql": sql}).encode()
    head = (
        f"POST /v1/query HTTP/1.1\r\nhost: {served.url.removeprefix('http://')}\r\n"
        f"accept: {ARROW}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(20)
        sock.connect(served.address)
        sock.sendall(head.encode() + body)
        sock.recv(1)
        assert wait_until_idle(served)
        report = served.put_geo("2.0").json()
        assert report["drained"]
        read = 0
        with suppress(ConnectionResetError):  # the connection was aborted before the rest was sent
            while content := sock.recv(1 << 20):
                read += len(content)
        assert read < 40_000_000


def test_an_unread_json_answer_is_dropped(start_service, caplog):
    caplog.set_level("INFO", "epochal.server")
    served = start_service(limits=ServiceLimits(query_s=1.5, stop_s=5.0))
    body = json.dumps({"sql": WIDE}).encode()
    head = (
        f"POST /v1/query HTTP/1.1\r\nhost: {served.url.removeprefix('http://')}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(served.address, timeout=20) as sock:
        sock.sendall(head.encode() + body)
        nothing = threading.Event()
        for _ in range(400):
            if "did not read its answer in time" in caplog.text:
                break
            nothing.wait(0.05)
        with suppress(ConnectionResetError):
            while sock.recv(1 << 20):
                pass
    assert "did not read its answer in time" in caplog.text


def test_a_query_without_a_free_planner_is_answered_503(served):
    served.service.database._planning_threads = PlanningThreads(waiting=0)
    answer = served.query("SELECT 1")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.headers["retry-after"] == "1"


def test_a_deep_text_is_refused(served):
    answer = served.query("SELECT " + "+".join(["1"] * 20_000))
    assert (answer.status_code, answer.json()["code"]) == (400, "query")
    assert served.query("SELECT 1").status_code == 200


def test_a_time_limit_ends_a_query(served):
    answer = served.query("SELECT geo.slow(1)", timeout=0.3)
    assert (answer.status_code, answer.json()["code"]) == (504, "query-timeout")
    served.events()[1].set()
    assert wait_until_idle(served)


def test_a_query_ends_with_its_client(served):
    inside, go_on = served.events()
    with pytest.raises(httpx.ReadTimeout):
        served.http.post("/v1/query", json={"sql": "SELECT geo.slow(1)"}, timeout=0.5)
    assert inside.is_set()
    assert wait_until_idle(served)
    go_on.set()


def test_an_error_of_a_function_is_the_plugins_fault(served):
    answer = served.query("SELECT geo.fails(1)")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "function")
    assert "not that one" in problem["detail"]
    plugins = served.http.get("/v1/plugins").json()["plugins"]
    assert plugins[0]["errors"] == 1


def test_timestamps_keep_their_nanoseconds(served):
    (row,) = served.query("SELECT TIMESTAMP '2024-01-01T00:00:00.123456789'").json()["rows"]
    assert row == ["2024-01-01T00:00:00.123456789"]
    assert served.query("SELECT now()").status_code == 200


def test_a_value_without_json_form_is_the_querys_fault(served):
    zone = "arrow_cast(0, 'Timestamp(Nanosecond, Some(\"Nowhere/Town\"))')"
    answer = served.query(f"SELECT 1 AS fine, {zone} AS at")
    assert (answer.status_code, answer.json()["code"]) == (400, "query")
    assert "column 'at'" in answer.json()["detail"]
    metrics = served.http.get("/metrics").text
    assert 'epochal_queries_total{outcome="query"} 1.0' in metrics
    assert 'outcome="cancelled"' not in metrics


def test_half_a_surrogate_pair_in_a_message_is_escaped():
    assert json.loads(encode({"detail": "\udcff"})) == {"detail": "\udcff"}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 400, "missing required field `sql`"),
        ({"sql": 3}, 400, "sql: expected `str`, got `int`"),
        ({"sql": "SELECT"}, 400, ""),
        ({"sql": "SELECT nope(1)"}, 400, "nope"),
        ({"sql": "CREATE VIEW v AS SELECT 1"}, 400, ""),
        ({"sql": "SELECT 1", "limit": -1}, 400, "limit: expected `int` >= 0"),
        ({"sql": "SELECT 1", "limit": 1.5}, 400, "limit: expected `int | null`, got `float`"),
        ({"sql": "SELECT 1", "timeout": "soon"}, 400, "timeout: expected `float | null`"),
        ({"sql": "SELECT 1", "params": 7}, 400, "params: expected `object | array | null`"),
        ({"sql": "SELECT $1", "params": [{}]}, 400, "params[0]: expected `bool | int | float"),
        ({"sql": "SELECT $1", "params": [2**70]}, 400, "params[0]: expected `int` <= 9223372036"),
        ({"sql": "SELECT 1", "tables": []}, 400, "unknown field `tables`; known: sql, params"),
        ([], 400, "the body: expected `object`, got `array`"),
    ],
)
def test_an_invalid_query_request_is_refused(served, body, status, reason):
    answer = served.http.post("/v1/query", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"sql": "SELECT $1", "params": [NaN]}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"sql": "SELECT $1", "params": [1e999]}', "application/json", 400),
        (b'{"sql": "SELECT 1", "sql": "SELECT 2"}', "application/json", 400),
        (b'{"sql": "SELECT $a", "params": {"a": 1, "a": 2}}', "application/json", 400),
        (b"SELECT 1", "text/plain", 415),
        (b'{"sql": "' + b"x" * (1 << 20) + b'"}', "application/json", 413),
        (b"[" * 100_000, "application/json", 400),
        (b'{"limit": ' + b"[" * 100_000, "application/json", 400),
        (b'{"sql": "SELECT 1", "limit": 1.0, "more": ' + b"[" * 100_000, "application/json", 400),
    ],
)
def test_an_invalid_body_is_refused(served, content, kind, status):
    answer = served.http.post("/v1/query", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert "traceback" not in answer.text.lower()


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("*/*", "application/json"),
        (ARROW, ARROW),
        (ARROW.upper(), ARROW),
        (f"application/json, {ARROW};q=0.5", "application/json"),
        (f"application/json;q=0.5, {ARROW}", ARROW),
        (f"{ARROW};q=0, */*", "application/json"),
        (f"{ARROW}, */*;q=0.1", ARROW),
        (f"application/*;q=0.9, {ARROW};q=0.1", "application/json"),
        ("text/html", "application/json"),
        (f"{ARROW};q=much", "application/json"),
    ],
)
def test_an_answer_has_the_type_that_its_client_prefers(served, accept, preferred):
    ask = {"json": {"sql": "SELECT 1"}, "headers": {"accept": accept}}
    answer = served.http.post("/v1/query", **ask)
    assert answer.headers["content-type"] == preferred


@pytest.mark.parametrize(("limit", "status"), [(1.0, 200), (1, 200), (1.5, 400), ("1", 400)])
def test_a_whole_number_may_be_written_with_a_fraction(served, limit, status):
    answer = served.query("SELECT $1 AS x", params=[2.0], limit=limit)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["columns"][0]["type"] == "DOUBLE"


@pytest.mark.parametrize("explain", ["EXPLAIN", "explain analyze", "/* a */ EXPLAIN VERBOSE"])
@pytest.mark.parametrize("accept", ["application/json", ARROW])
def test_explain_shows_the_files_of_tables_to_the_admin_alone(served, people, explain, accept):
    served.service.database.register("people", people)
    ask = {"json": {"sql": f"{explain} SELECT * FROM people"}, "headers": {"accept": accept}}
    everyone = served.http.post("/v1/query", **ask)
    assert everyone.status_code == 200
    assert b"DataSourceExec" in everyone.content
    assert people.name.encode() not in everyone.content
    assert people.name.encode() in served.admin.post("/v1/query", **ask).content
