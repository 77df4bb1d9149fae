"""Events, figures, health, and the service's start and stop."""

import asyncio
import json
import re
import threading

from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import GEO

from epochal.events import StoreFaulted
from epochal.server import ServiceLimits, create_app
from epochal.server.api import document
from epochal.server.event_stream import KEPT, EventFeed
from epochal.server.problem_details import STATUSES
from epochal.sql.contexts import engine_threads


def follow(served, until, last=None):
    """The events of a stream, until one satisfies `until`; each has its id as `event["id"]`."""
    headers = {"last-event-id": last} if last else {}
    events, kind, event_id = [], "message", None
    with served.http.stream("GET", "/v1/events", headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                event_id = line[4:]
            elif line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                events.append((kind, json.loads(line[6:]) | {"id": event_id}))
                kind = "message"
                if until(*events[-1]):
                    return events
    raise AssertionError(f"the stream ended: {events}")


def is_finished(kind, event):
    return kind == "message" and event["type"] == "change-finished"


def test_events_resume_after_the_last_id(served):
    first = follow(served, is_finished)
    types = [event["type"] for kind, event in first if kind == "message"]
    assert types[0] == "change-started"
    assert types.index("change-committed") < types.index("change-finished")
    served.put_geo("2.0")
    after = follow(served, is_finished, last=first[-1][1]["id"])
    changes = {event["change"] for kind, event in after if "change" in event and kind == "message"}
    assert changes == {2}


def test_a_head_request_for_the_events_ends(served):
    answer = served.http.head("/v1/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert served.service.feed.followers == 0


def test_a_slow_follower_receives_the_number_of_missed_events():
    async def read():
        feed = EventFeed(followers=1)
        following = feed.follow(f"{feed.boot}-0")
        hello = await anext(following)
        for number in range(KEPT + 7):
            feed.add(StoreFaulted(error=f"number {number}."))
        missed, rest = await anext(following), await anext(following)
        await following.aclose()
        return feed.boot, hello.decode(), missed.decode(), rest.decode()

    boot, hello, missed, rest = asyncio.run(read())
    assert f"id: {boot}-0\nevent: hello" in hello
    assert missed == 'event: missed\ndata: {"count": 7}\n\n'
    assert rest.count("data: ") == KEPT
    assert "number 7." in rest
    assert "number 6." not in rest


def test_followers_beyond_the_limit_are_refused(start_service):
    served = start_service(limits=ServiceLimits(followers=1, stop_s=5.0))
    with served.http.stream("GET", "/v1/events") as answer:
        lines = answer.iter_lines()  # a reference: without it the answer is closed
        next(lines)
        refused = served.http.get("/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "followers")


NAMES = {
    "epochal_epoch",
    "epochal_plugins",
    "epochal_draining",
    "epochal_queries_running",
    "epochal_plugin_generation",
    "epochal_plugin_queries",
    "epochal_plugin_errors",
    "epochal_queries",
    "epochal_query_seconds",
    "epochal_changes",
    "epochal_cutover_seconds",
    "epochal_drain_timeouts",
    "epochal_leaked_generations",
}


def test_metrics_have_the_documented_names_and_count(served):
    served.query("SELECT geo.version(1)")
    served.query("SELECT geo.fails(1)")
    served.put("geo", GEO.format(version="2") + "1/0\n")
    follow(served, lambda kind, event: kind == "message" and event["type"] == "change-failed")
    families = {
        family.name: family
        for family in text_string_to_metric_families(served.http.get("/metrics").text)
        if not family.name.endswith("_created")  # the library's own, beside each
    }
    assert families.keys() == NAMES
    counted = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert counted["epochal_queries_total", "ok"] == 1
    assert counted["epochal_queries_total", "function"] == 1
    assert counted["epochal_plugin_queries_total", "geo"] == 2
    assert counted["epochal_plugin_errors_total", "geo"] == 1
    assert counted["epochal_changes_total", "committed"] == 1
    assert counted["epochal_changes_total", "link"] == 1
    assert counted["epochal_plugin_generation", "geo", "1.0"] == 0


def test_a_restart_serves_what_was_committed(start_service, tmp_path):
    served = start_service(store=tmp_path / "store")
    served.put_geo("1.0")
    served.put_geo("2.0")
    epoch = served.http.get("/v1/status").json()["epoch"]
    served.stop()
    again = start_service(store=tmp_path / "store")
    assert again.http.get("/v1/status").json()["epoch"] == epoch
    assert again.query("SELECT geo.version(1)").json()["rows"] == [["2.0"]]


def test_a_stop_finishes_running_queries_and_refuses_new_ones(served):
    inside, go_on = served.events()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(served.query("SELECT geo.slow(7)")))
    asking.start()
    assert inside.wait(10)
    stopping = threading.Thread(target=served.stop)
    served.service.stop()
    assert served.http.get("/readyz").status_code == 503
    assert served.http.get("/healthz").status_code == 200
    refused = served.query("SELECT 1")
    assert (refused.status_code, refused.json()["code"]) == (503, "stopping")
    go_on.set()
    asking.join(20)
    stopping.start()
    stopping.join(30)
    assert answers[0].json()["rows"] == [[7]]
    assert served.ended is True


def test_a_query_that_outlasts_the_stop_is_answered_503(start_service, caplog):
    served = start_service(limits=ServiceLimits(stop_s=1.0))
    served.put_geo("1.0")
    inside, go_on = served.events()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(served.query("SELECT geo.slow(1)")))
    asking.start()
    assert inside.wait(10)
    stopping = threading.Thread(target=served.stop)
    stopping.start()
    asking.join(20)
    go_on.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "stopping")
    assert "Traceback" not in caplog.text


def test_readyz_names_the_functions_that_hold_every_engine_thread(served, monkeypatch, caplog):
    monkeypatch.setattr("epochal.server.engine_health.LOOK_S", 0.05)
    monkeypatch.setattr("epochal.server.engine_health.ANSWER_S", 0.5)
    _, go_on = served.events()
    asking = [
        threading.Thread(target=served.query, args=["SELECT geo.slow(1)"], kwargs={"timeout": 1.0})
        for _ in range(engine_threads() + 1)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    answer = ask_until(served, 503)
    assert answer.json()["code"] == "held"
    assert "in slow" in answer.json()["detail"]
    assert caplog.text.count("no query can be answered") == 1
    refused = served.query("SELECT 1")
    assert (refused.status_code, refused.json()["code"]) == (503, "held")
    go_on.set()
    assert ask_until(served, 200).json() == {"status": "ready"}
    assert served.query("SELECT 1").status_code == 200


def ask_until(served, status):
    nothing = threading.Event()
    for _ in range(200):
        answer = served.http.get("/readyz")
        if answer.status_code == status:
            return answer
        nothing.wait(0.03)
    raise AssertionError(answer.text)


def test_every_error_of_the_library_has_a_status():
    from epochal import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    for kind in classes:
        if issubclass(kind, errors.EpochalError):
            assert any(base in STATUSES for base in kind.__mro__), kind


def test_the_document_has_every_route(served):
    routes = {
        (route.path.replace(":int", ""), method.lower())
        for route in create_app(served.service, served.access).routes
        for method in route.methods - {"HEAD"}
    }
    documented = {
        (path, method) for path, item in document()["paths"].items() for method in item
    } - {(path, "parameters") for path in document()["paths"]}
    pages = {("/", "get"), ("/page/{name}", "get"), ("/openapi.json", "get")}
    tools = {("/mcp", method) for method in ("get", "post", "delete")}  # of another protocol
    assert routes - pages - tools == documented
    assert served.http.get("/openapi.json").json() == document()


def test_the_page_needs_no_other_server(served):
    page = served.http.get("/").text
    for name in re.findall(r'(?:src|href)="(/[^"]*)"', page):
        asset = served.http.get(name)
        assert asset.status_code == 200, name
        for other in re.findall(r'from "(/page/[^"]+)"', asset.text):
            assert served.http.get(other).status_code == 200, other
        assert "http://" not in asset.text.replace("http://www.w3.org", "")
        assert "https://" not in asset.text
    assert served.http.get("/page/../app.py").status_code == 404
    assert served.http.get("/page/none.js").status_code == 404


def test_the_oldest_query_is_ended_when_memory_is_short(start_service, caplog):
    served = start_service(limits=ServiceLimits(memory_bytes=1, stop_s=5.0))
    answer = served.query("SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value < 0")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.headers["retry-after"]
    assert "short of memory" in answer.json()["detail"]
    assert "a query was ended" in caplog.text
