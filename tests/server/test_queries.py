"""`POST /v1/query`: answers say which code computed them, and bad questions what is wrong."""

import json
import threading

import httpx
import pyarrow as pa
import pytest

from epochal.server import Limits
from epochal.server.queries import ARROW


def wait_until_idle(served):
    """Wait until no query runs, for less than `slow` does by itself; whether that came to be."""
    idle = threading.Event()
    for _ in range(80):
        if not served.http.get("/v1/status").json()["running"]:
            return True
        idle.wait(0.05)
    return False


def test_an_answer_says_which_code_computed_it(served):
    answer = served.query("SELECT geo.version(1) AS v, 2.5 AS x, NULL AS nothing").json()
    assert [column["name"] for column in answer["columns"]] == ["v", "x", "nothing"]
    assert answer["rows"] == [["1.0", 2.5, None]]
    epoch = served.service.runtime.epoch
    assert answer["epoch"] == {"number": epoch.number, "id": epoch.id}
    (one,) = answer["provenance"]
    generation = epoch.generation("geo")
    assert one == {
        "plugin": "geo",
        "version": "1.0",
        "digest": generation.digest,
        "generation": generation.number,
        "functions": ["geo.version"],
    }


def test_every_answer_of_the_api_says_the_epoch(served):
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


def test_an_arrow_answer_streams_with_the_same_facts(served, people):
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
def test_a_row_limit_cuts_off_and_says_so(served, people, limit, rows):
    served.service.database.register("people", people)
    answer = served.query("SELECT * FROM people", limit=limit).json()
    assert len(answer["rows"]) == rows
    assert answer["truncated"] is (rows < 3)


def test_the_services_own_limit_holds_whatever_is_asked(start_service, people):
    served = start_service(limits=Limits(rows=1, stop_s=5.0))
    served.service.database.register("people", people)
    answer = served.query("SELECT * FROM people", limit=100).json()
    assert len(answer["rows"]) == 1
    assert answer["truncated"]


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


def test_a_function_that_raises_is_told_as_the_plugins_fault(served):
    answer = served.query("SELECT geo.fails(1)")
    told = answer.json()
    assert (answer.status_code, told["code"]) == (422, "function")
    assert "not that one" in told["detail"]
    plugins = served.http.get("/v1/plugins").json()["plugins"]
    assert plugins[0]["errors"] == 1


def test_an_instant_in_nanoseconds_is_told(served):
    (row,) = served.query("SELECT TIMESTAMP '2024-01-01T00:00:00.123456789'").json()["rows"]
    assert row == ["2024-01-01T00:00:00.123456789"]
    assert served.query("SELECT now()").status_code == 200


def test_a_value_that_cannot_be_told_is_the_querys_fault_and_counted_so(served):
    zone = "arrow_cast(0, 'Timestamp(Nanosecond, Some(\"Nowhere/Town\"))')"
    answer = served.query(f"SELECT 1 AS fine, {zone} AS at")
    assert (answer.status_code, answer.json()["code"]) == (400, "query")
    assert "column 'at'" in answer.json()["detail"]
    metrics = served.http.get("/metrics").text
    assert 'epochal_queries_total{outcome="query"} 1.0' in metrics
    assert 'outcome="cancelled"' not in metrics


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "sql is missing"),
        ({"sql": 3}, 400, "sql must be text"),
        ({"sql": "SELECT"}, 400, ""),
        ({"sql": "SELECT nope(1)"}, 400, "nope"),
        ({"sql": "CREATE VIEW v AS SELECT 1"}, 400, ""),
        ({"sql": "SELECT 1", "limit": -1}, 400, "limit"),
        ({"sql": "SELECT 1", "limit": 1.5}, 400, "limit"),
        ({"sql": "SELECT 1", "timeout": "soon"}, 400, "timeout"),
        ({"sql": "SELECT 1", "params": 7}, 400, "params"),
        ({"sql": "SELECT $1", "params": [{}]}, 400, "parameter"),
        ({"sql": "SELECT $1", "params": [2**70]}, 400, "64 bits"),
        ({"sql": "SELECT 1", "tables": []}, 400, "unknown field 'tables'"),
        ([], 400, "JSON object"),
    ],
)
def test_a_question_that_cannot_be_right_is_told_so(served, body, status, said):
    answer = served.http.post("/v1/query", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"sql": "SELECT $1", "params": [NaN]}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"SELECT 1", "text/plain", 415),
        (b'{"sql": "' + b"x" * (1 << 20) + b'"}', "application/json", 413),
        (b"[" * 100_000, "application/json", 400),
    ],
)
def test_a_body_that_is_none_is_refused(served, content, kind, status):
    answer = served.http.post("/v1/query", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert "traceback" not in answer.text.lower()
