"""Changes over HTTP: transactions, each on condition of the epoch in its `If-Match`."""

import contextlib
import io
import tarfile
import threading
import zipfile

import pytest
from tests.server.conftest import GEO
from tests.wasm_modules import SAME, manifest, module
from tests.wasm_modules import number as constant

from epochal import Runtime
from epochal._core.sync.fifo_lock import Ticket
from epochal.artifact import embedded_manifests
from epochal.cli import main
from epochal.errors import HostError


def version(served):
    return served.query("SELECT geo.version(1)").json()["rows"][0][0]


def test_put_loads_and_then_reloads(start_service):
    served = start_service()
    loaded = served.put_geo("1.0")
    assert loaded.status_code == 201
    assert loaded.json()["swaps"][0]["old"] is None
    reloaded = served.put_geo("2.0")
    assert reloaded.status_code == 200
    report = reloaded.json()
    assert report["swaps"][0]["old"]["version"] == "1.0"
    assert report["drained"]
    assert report["reclaimed"]
    assert version(served) == "2.0"


def package(archive):
    """The plugin geo as a package in an archive of that kind."""
    content = GEO.format(version="3.0").encode()
    sink = io.BytesIO()
    if archive == "tar":
        with tarfile.open(fileobj=sink, mode="w:gz") as tar:
            entry = tarfile.TarInfo("geo/__init__.py")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    else:
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("geo/__init__.py", content)
            if archive == "wheel":
                packed.writestr("geo-3.0.dist-info/METADATA", "Name: geo\n")
    return sink.getvalue()


@pytest.mark.parametrize("archive", ["tar", "zip", "wheel"])
def test_put_takes_archives_of_a_package(served, archive):
    answer = served.put("geo", package(archive))
    assert answer.status_code == 200, answer.text
    assert version(served) == "3.0"


@pytest.mark.parametrize("folder", [False, True])
def test_put_takes_a_module_and_an_archive_of_its_folder(served, folder):
    content = constant(4.0, version="4.0").files["geo.wasm"]
    if folder:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("geo/code.wasm", content)
            packed.writestr("geo/plugin.toml", embedded_manifests(content)[0])
        content = sink.getvalue()
        answer = served.put("geo", content)
        assert (answer.status_code, answer.json()["code"]) == (422, "manifest")  # it has two
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("geo/code.wasm", module(SAME))
            packed.writestr("geo/plugin.toml", manifest(SIGNATURE, version="4.0"))
        content = sink.getvalue()
    answer = served.put("geo", content)
    assert answer.status_code == 200, answer.text
    assert served.service.runtime.generation("geo").version == "4.0"


SIGNATURE = 'same = "(a: utf8) -> utf8"'


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("", 400, "request"),
        (b"\0asm and then nothing", 422, "manifest"),
        ("x = 1\n", 422, "manifest"),
        (GEO.format(version="2.0").replace('"geo"', '"geometry"'), 422, "artifact"),
        (GEO.format(version="2.0") + "\n1/0\n", 422, "link"),
        (GEO.format(version="2.0") + "\ndef init(ctx): raise OSError('no disk')\n", 422, "init"),
        (b"PK\x03\x04 and then nothing", 422, "artifact"),
        (b"\x1f\x8b and then nothing", 422, "artifact"),
    ],
)
def test_a_refused_load_leaves_the_old_version_serving(served, content, status, code):
    answer = served.put("geo", content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert version(served) == "1.0"
    assert served.service.runtime.epoch.number == 1


def test_a_check_runs_every_step_but_the_publish(served):
    answer = served.admin.post("/v1/plugins:check", content=GEO.format(version="9.0"))
    assert answer.status_code == 200
    assert answer.json()["published"] is False
    assert "init geo" in answer.json()["steps"]
    assert version(served) == "1.0"
    broken = served.admin.post("/v1/plugins:check", content=GEO.format(version="9.0") + "\n1/0\n")
    assert broken.status_code == 422


# --- If-Match ----------------------------------------------------------------------------------


def test_a_change_with_the_current_etag_is_made(served):
    etag = served.http.get("/v1/plugins").headers["etag"]
    assert served.put_geo("2.0", headers={"if-match": etag}).status_code == 200


def test_a_change_with_an_old_etag_is_refused(served):
    etag = served.http.get("/v1/plugins").headers["etag"]
    served.put_geo("2.0")
    answer = served.put_geo("3.0", headers={"if-match": etag})
    assert (answer.status_code, answer.json()["code"]) == (412, "epoch-moved")
    assert answer.json()["current"] == served.service.runtime.epoch.id
    assert version(served) == "2.0"


def test_one_of_many_changes_with_the_same_etag_is_made(served):
    """The check is made in the change's turn: no other comes between it and the publish."""
    etag = served.http.get("/v1/plugins").headers["etag"]
    statuses = []

    def ask(n):
        statuses.append(served.put_geo(f"2.{n}", headers={"if-match": etag}).status_code)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] + [412] * 5


def answer_for(served, *tags):
    headers = [("if-match", tag) for tag in tags]
    return served.admin.post("/v1/plugins/geo/reload", headers=headers).status_code


def test_if_match_is_parsed_by_the_rfc(served):
    def seen():
        return served.service.runtime.epoch.id

    assert answer_for(served, f'"{seen()}"') == 200
    assert answer_for(served, f'"0123456789abcdef", "{seen()}"') == 200
    assert answer_for(served, '"0123456789abcdef"', f'"{seen()}"') == 200
    assert answer_for(served, seen()[:12]) == 200  # as people are shown it
    assert answer_for(served, seen()[:11]) == 412
    assert answer_for(served, f'W/"{seen()}"') == 412
    assert answer_for(served, '"0123456789abcdef", "fedcba9876543210"') == 412
    assert answer_for(served, "*") == 200
    assert answer_for(served, f'"{seen()}') == 400
    assert answer_for(served, ",") == 400


# --- turns -------------------------------------------------------------------------------------


class Held:
    """The lock of changes, held until `let_go`; changes that come meanwhile queue up."""

    def __init__(self, runtime):
        self._turn = runtime._epochs.turn
        self._ticket = self._turn.acquire(Ticket())
        assert self._ticket.wait(10)
        self._threads = []

    def ask(self, ask, *arguments):
        """Ask on a thread; goes on when the change is in the queue."""
        answers = []
        before = len(self._turn._queue)
        thread = threading.Thread(target=lambda: answers.append(ask(*arguments)))
        thread.start()
        self._threads.append(thread)
        nothing = threading.Event()
        while len(self._turn._queue) == before and thread.is_alive():
            nothing.wait(0.005)
        return answers

    def let_go(self):
        self._turn.release(self._ticket)
        for thread in self._threads:
            thread.join(30)


def test_a_reload_reads_the_active_artifact_in_its_turn(served):
    """Otherwise it would silently undo an upload that is before it in the queue."""
    held = Held(served.service.runtime)
    uploaded = held.ask(served.put_geo, "2.0")
    reloaded = held.ask(served.admin.post, "/v1/plugins/geo/reload")
    held.let_go()
    assert [uploaded[0].status_code, reloaded[0].status_code] == [200, 200]
    assert version(served) == "2.0"


def test_an_upload_is_a_load_or_a_reload_by_its_turn(start_service):
    served = start_service()
    held = Held(served.service.runtime)
    first, second = held.ask(served.put_geo, "1.0"), held.ask(served.put_geo, "2.0")
    check = {"content": GEO.format(version="3.0")}
    checked = held.ask(lambda: served.admin.post("/v1/plugins:check", **check))
    held.let_go()
    assert [answers[0].status_code for answers in (first, second, checked)] == [201, 200, 200]
    assert version(served) == "2.0"


# --- the other changes -------------------------------------------------------------------------


def test_reload_reads_a_file_again(start_service, tmp_path):
    served = start_service()
    path = tmp_path / "geo.py"
    path.write_text(GEO.format(version="1.0"))
    served.service.runtime.load(path)
    path.write_text(GEO.format(version="1.1"))
    assert served.admin.post("/v1/plugins/geo/reload").status_code == 200
    assert version(served) == "1.1"


def test_reload_restarts_an_uploaded_plugin(served):
    report = served.admin.post("/v1/plugins/geo/reload").json()
    assert report["swaps"][0]["new"]["generation"] == 1
    assert version(served) == "1.0"


def test_remove_with_cascade_removes_dependents(served):
    top = '# /// plugin\n# id = "top"\n# version = "1"\n# requires = ["geo"]\n# ///\n'
    assert served.put("top", top).status_code == 201
    refused = served.admin.delete("/v1/plugins/geo")
    assert (refused.status_code, refused.json()["code"]) == (409, "required-by")
    assert served.admin.delete("/v1/plugins/geo?cascade=true").status_code == 200
    assert served.http.get("/v1/plugins").json()["plugins"] == []
    gone = served.admin.delete("/v1/plugins/geo")
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown-plugin")


def test_rollback_brings_back_a_generation_a_version_or_an_epoch(start_service, tmp_path):
    served = start_service(store=tmp_path / "store")
    for number in ("1.0", "2.0", "3.0"):
        served.put_geo(number)
    path = "/v1/plugins/geo/rollback"
    assert served.admin.post(path, json={"to": 0}).status_code == 200
    assert version(served) == "1.0"
    assert served.admin.post(path, json={"to": "2.0"}).status_code == 200
    assert version(served) == "2.0"
    assert served.admin.post("/v1/epochs/3/rollback").status_code == 200
    assert version(served) == "3.0"
    unknown = served.admin.post(path, json={"to": "7.7"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-kept")
    epochs = served.http.get("/v1/epochs").json()
    assert [epoch["number"] for epoch in epochs["epochs"]] == [6, 5, 4, 3, 2, 1]
    assert epochs["epochs"][0]["reason"] == "http"


def test_rollback_needs_a_store(served):
    answer = served.admin.post("/v1/plugins/geo/rollback", json={"to": 0})
    assert (answer.status_code, answer.json()["code"]) == (409, "no-store")
    assert served.http.get("/v1/epochs").json()["kept"] is False


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/plugins/geo/reload?drain_timeout=soon", None),
        ("POST", "/v1/plugins/geo/reload?drain_timeout=-1", None),
        ("POST", "/v1/plugins/geo/reload?cancel_holders=yes", None),
        ("POST", "/v1/plugins/geo/reload?nope=1", None),
        ("POST", "/v1/plugins/geo/reload?drain_timeout=1_0", None),
        ("POST", "/v1/plugins/geo/reload?drain_timeout=1&drain_timeout=2", None),
        ("POST", "/v1/plugins/geo/reload", {"to": 1}),
        ("POST", "/v1/plugins/geo/rollback", {"to": True}),
        ("POST", "/v1/plugins/geo/rollback", {"to": -1}),
        ("POST", "/v1/plugins/geo/rollback", {}),
        ("POST", "/v1/epochs/none/rollback", None),
        pytest.param("POST", f"/v1/epochs/{'9' * 5000}/rollback", None, id="many digits"),
        ("POST", "/v1/epochs/9007199254740993/rollback", None),
    ],
)
def test_invalid_options_are_refused(served, method, path, body):
    answer = served.admin.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "request")
    assert served.service.runtime.epoch.number == 1


# --- drains ------------------------------------------------------------------------------------


def test_a_drain_names_the_query_that_holds_it(served):
    inside, go_on = served.events()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(served.query("SELECT geo.slow(7)")))
    asking.start()
    assert inside.wait(10)
    report = served.put_geo("2.0", params={"drain_timeout": 0}).json()
    assert report["drained"] is False
    (drain,) = served.http.get("/v1/drains").json()["drains"]
    assert (drain["plugin"], drain["generation"], drain["queries"]) == ("geo", 0, 1)
    assert any("SELECT geo.slow(?)" in holder for holder in drain["holders"])
    assert version(served) == "2.0"
    go_on.set()
    asking.join(20)
    assert answers[0].json()["rows"] == [[7]]
    assert answers[0].json()["provenance"][0]["version"] == "1.0"


def test_a_caller_that_does_not_wait_ends_no_calls_of_others(served, monkeypatch):
    seen, change = [], Runtime.change

    def spy(self, **options):
        seen.append(options.get("on_drain_timeout", "as the runtime"))
        return change(self, **options)

    monkeypatch.setattr(Runtime, "change", spy)
    served.put_geo("2.0", params={"drain_timeout": 0})
    served.put_geo("3.0", params={"drain_timeout": 10})
    served.put_geo("4.0")
    assert seen == ["report", "as the runtime", "as the runtime"]


@pytest.mark.parametrize(
    ("given", "policy"), [((), "report"), (("--on-drain-timeout", "interrupt"), "interrupt")]
)
def test_serve_has_its_runtime_interrupt_drains_if_it_is_told_to(monkeypatch, given, policy):
    class RefusedRuntime(Runtime):
        def __init__(self, **options):
            raise HostError(f"policy {options['on_drain_timeout']}")

    monkeypatch.setattr("epochal.runtime.Runtime", RefusedRuntime)
    monkeypatch.setattr("epochal.cli.commands.serve._log", lambda *_: None)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main(["serve", "--port", "0", *given]) == 1
    assert f"policy {policy}" in errors.getvalue()


FORMS = ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", ["/v1/plugins/geo", "/v1/plugins:check"])
def test_a_form_is_no_upload(served, form, path):
    method = "POST" if path.endswith("check") else "PUT"
    answer = served.admin.request(method, path, content="a=1", headers={"content-type": form})
    assert (answer.status_code, answer.json()["code"]) == (415, "media-type")
    assert "--upload-file" in answer.json()["detail"]


def test_an_upload_may_be_an_octet_stream(served):
    headers = {"content-type": "application/octet-stream"}
    assert served.put_geo("1.1", headers=headers).status_code == 200


CONFIGURED = (
    GEO.format(version="1.0")
    + """
def init(ctx):
    global unit
    unit = ctx.config["unit"]

@scalar
def configured(x: int) -> str:
    return unit
"""
)


def test_a_configuration_comes_with_the_upload_and_alone(start_service):
    served = start_service()
    answer = served.put("geo", CONFIGURED)
    assert (answer.status_code, answer.json()["code"]) == (422, "config-key")
    assert "unit is missing" in answer.json()["detail"]
    for method, path, unit in (("PUT", "geo", "km"), ("POST", "geo/reload", "mile é")):
        body = {"content": CONFIGURED} if method == "PUT" else {}
        sent = {b"epochal-config": f'{{"unit": "{unit}"}}'.encode()}
        answer = served.admin.request(method, f"/v1/plugins/{path}", headers=sent, **body)
        assert answer.is_success, answer.text
        assert served.query("SELECT geo.configured(1)").json()["rows"] == [[unit]]
    assert served.put("geo", CONFIGURED).is_success  # it keeps its configuration
    assert served.query("SELECT geo.configured(1)").json()["rows"] == [["mile é"]]
    for wrong in ("[1]", "x", "{"):
        answer = served.put("geo", CONFIGURED, headers={"epochal-config": wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, "request")


def test_a_wrong_token_is_told_from_a_missing_one(served):
    for headers, code in (({}, "token"), ({"authorization": "Bearer nonsense"}, "wrong-token")):
        answer = served.http.post("/v1/plugins/geo/reload", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)


def test_the_difference_of_two_generations_needs_the_admin_token(start_service, tmp_path):
    served = start_service(store=tmp_path / "store")
    for number in ("1.0", "2.0"):
        assert served.put_geo(number).is_success
    path = "/v1/plugins/geo/diff?old=0&new=1"
    assert served.http.get(path).status_code == 401
    answer = served.admin.get(path)
    lines = answer.json()["diff"].splitlines()
    assert '-# version = "1.0"' in lines
    assert '+# version = "2.0"' in lines
    assert served.admin.get("/v1/plugins/geo/diff?old=0&new=7").status_code == 404


def test_the_holders_of_an_old_generation_are_asked_to_stop(served):
    runtime = served.service.runtime
    asked = threading.Event()
    with runtime.operation("a long report") as operation:
        operation.on_cancel(asked.set)
        assert not served.admin.put(
            "/v1/plugins/geo?drain_timeout=0", content=GEO.format(version="2.0")
        ).json()["drained"]
        assert served.http.post("/v1/drains/geo/0/cancel").status_code == 401
        answer = served.admin.post("/v1/drains/geo/0/cancel")
        assert any("a long report" in line for line in answer.json()["asked"])
        assert asked.wait(10)
    assert served.admin.post("/v1/drains/geo/7/cancel").status_code == 404
