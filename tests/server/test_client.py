"""The command line as a client of a running service."""

import json
import threading
import time

import pytest
from tests.server.conftest import ADMIN, GEO, QUERY

from epochal.cli import main
from epochal.server import ServiceLimits
from epochal.server.serve import listen_locally


@pytest.fixture
def run(served, capsys, monkeypatch):
    """Run a command against the service; returns its exit status and output."""
    monkeypatch.setenv("EPOCHAL_SERVER", served.url)
    monkeypatch.setenv("EPOCHAL_ADMIN_TOKEN", ADMIN)

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return status, written.out, written.err

    return run


@pytest.fixture
def geo(tmp_path):
    def geo(version, more=""):
        path = tmp_path / "geo.py"
        path.write_text(GEO.format(version=version) + more)
        return path

    return geo


def test_status_and_plugins_show_the_service(run, served):
    status, out, _ = run("status")
    assert status == 0
    assert out.startswith("serving, epoch 1 (")
    assert "1 plugin\n" in out
    status, out, _ = run("plugins")
    assert "geo" in out
    assert "geo.version(x BIGINT) -> VARCHAR" in out
    assert json.loads(run("status", "--json")[1])["epoch"]["number"] == 1
    assert json.loads(run("plugins", "--json")[1])["plugins"][0]["plugin"] == "geo"


def test_load_sends_a_file(run, geo):
    status, out, _ = run("load", geo("2.0"), "--reason", "a try")
    assert status == 0
    assert "geo: 1.0 (generation 0" in out
    assert "-> 2.0 (generation 1" in out
    assert "epoch 2 published" in out


def test_load_sends_a_package(run, tmp_path, served):
    package = tmp_path / "geo"
    package.mkdir()
    (package / "__init__.py").write_text(GEO.format(version="4.0") + "from .more import X\n")
    (package / "more.py").write_text("X = 1\n")
    assert run("load", package)[0] == 0
    assert served.query("SELECT geo.version(1)").json()["rows"] == [["4.0"]]


def test_reload_rollback_and_remove(run, served):
    assert run("reload", "geo", "--json")[0] == 0
    status, _, err = run("rollback", "geo", "--to", "0")
    assert status == 1
    assert "no history" in err or "store" in err
    assert run("remove", "geo")[0] == 0
    assert served.http.get("/v1/plugins").json()["plugins"] == []


def test_a_refused_change_shows_the_services_code(run, geo):
    status, _, err = run("load", geo("2.0", "1/0\n"), "--json")
    assert status == 1
    assert json.loads(err)["error"]["code"] == "link"


def test_a_change_for_an_old_epoch_is_refused(run, served):
    seen = served.service.runtime.epoch.id
    assert run("reload", "geo", "--if-epoch", seen)[0] == 0
    shown = run("status")[1].partition("(")[2].partition(")")[0]
    assert run("reload", "geo", "--if-epoch", shown)[0] == 0
    status, _, err = run("reload", "geo", "--if-epoch", "0123456789ab", "--json")
    assert status == 1
    assert json.loads(err)["error"]["code"] == "epoch-moved"


def test_a_drain_that_outlasts_the_wait_exits_with_3(run, served, geo):
    inside, go_on = served.events()
    asking = threading.Thread(target=served.query, args=["SELECT geo.slow(7)"])
    asking.start()
    assert inside.wait(10)
    status, out, err = run("load", geo("2.0"), "--wait", "0")
    assert status == 3
    assert "epoch 2 published" in out
    assert "still in use by" in err
    assert "SELECT geo.slow(?)" in err
    go_on.set()
    asking.join(20)


def test_a_terminal_shows_the_holders_during_the_wait(run, served, geo, monkeypatch):
    shown = []
    monkeypatch.setattr("epochal.cli.commands.service._is_watched", lambda: True)
    monkeypatch.setattr("rich.status.Status.update", lambda self, text: shown.append(str(text)))
    inside, go_on = served.events()
    asking = threading.Thread(target=served.query, args=["SELECT geo.slow(7)"])
    asking.start()
    assert inside.wait(10)
    go_on_later = threading.Timer(3.0, go_on.set)
    go_on_later.start()
    status, _, _ = run("load", geo("2.0"))
    assert status == 0
    assert any("geo generation 0 is held" in text and "geo.slow(?)" in text for text in shown)
    asking.join(20)


def test_a_change_is_made_though_its_holders_cannot_be_shown(
    start_service, geo, capsys, monkeypatch
):
    """For example, because too many clients follow the events already."""
    served = start_service(limits=ServiceLimits(followers=0, stop_s=5.0))
    served.put_geo("1.0")
    monkeypatch.setattr("epochal.cli.commands.service._is_watched", lambda: True)
    monkeypatch.setattr("epochal.cli.commands.service._LEEWAY_S", 0.01)
    monkeypatch.setenv("EPOCHAL_ADMIN_TOKEN", ADMIN)
    inside, go_on = served.events()
    asking = threading.Thread(target=served.query, args=["SELECT geo.slow(7)"])
    asking.start()
    assert inside.wait(10)
    go_on_later = threading.Timer(1.0, go_on.set)
    go_on_later.start()
    assert main(["load", str(geo("2.0")), "--server", served.url]) == 0
    assert "epoch 2 published" in capsys.readouterr().out
    asking.join(20)


@pytest.mark.parametrize("written", ["table", "json", "csv"])
def test_query_runs_at_the_service(run, served, written):
    status, out, err = run(
        "query", "SELECT geo.version(1) AS v", "--server", served.url, "--format", written
    )
    assert status == 0
    assert "1.0" in out
    if written == "json":
        assert json.loads(out)["provenance"][0]["kind"] == "scalar"
    if written == "table":
        assert "computed by geo 1.0" in err


def test_query_at_a_service_refuses_local_plugins(run, served, geo):
    status, _, err = run("query", "SELECT 1", "--server", served.url, "--plugin", geo("1.0"))
    assert status == 2
    assert "has its own plugins" in err


def test_a_failed_query_shows_the_services_code(run, served):
    status, _, err = run("query", "SELECT geo.fails(1)", "--server", served.url)
    assert status == 1
    assert "not that one" in err


def test_an_address_with_a_path_is_questioned(run, served):
    status, _, err = run("query", "SELECT 1", "--server", f"{served.url}/x")
    assert status == 1
    assert "/x has a path" in " ".join(err.split())


def test_events_are_printed(run):
    for _ in range(200):  # events reach the service's list by a thread of their own
        status, out, _ = run("events", "--no-follow")
        assert status == 0
        if "load geo 1.0 (epoch 1, by http)" in out:
            break
        time.sleep(0.05)
    assert "load geo 1.0 (epoch 1, by http)" in out
    assert "LINKED" not in out
    lines = run("events", "--no-follow", "--all", "--json")[1].splitlines()
    assert any(json.loads(line)["type"] == "state-changed" for line in lines)


def test_the_printed_link_has_the_token(run, served, monkeypatch):
    monkeypatch.delenv("EPOCHAL_ADMIN_TOKEN")
    status, _, err = run("reload", "geo")
    assert status == 1
    assert "EPOCHAL_ADMIN_TOKEN" in err
    assert run("reload", "geo", "--server", f"{served.url}/#token={ADMIN}")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["status", "--server", "here"], 1, "is not an address"),
        (["status", "--server", "http://127.0.0.1:1"], 1, "no service answers at"),
        (["status", "--token-file", "/nowhere/token"], 1, "cannot be read"),
        (["rollback", "geo"], 1, "rollback needs a service with a --store"),
        (["rollback", "--to", "1"], 2, "either a plugin and --to, or --epoch"),
        (["load", "/nowhere/geo.py"], 1, "cannot be read"),
        (["reload", "nope"], 1, "no plugin 'nope'"),
        (["query", "SELECT 1", "--timeout", "0"], 2, "0 seconds is too short"),
        (["remove", "geo?cascade=true"], 2, "is not a plugin's id"),
        (["reload", "../epochs/1/rollback"], 2, "is not a plugin's id"),
        (["rollback", "geo/x", "--to", "1"], 2, "is not a plugin's id"),
        (["rollback", "geo", "--to", "9" * 5000], 1, "store"),
    ],
)
def test_invalid_arguments_are_refused(run, arguments, status, message):
    exit_status, _, err = run(*arguments)
    assert exit_status == status
    assert message in " ".join(err.split())


def test_the_query_token_is_for_queries(start_service, capsys, monkeypatch):
    served = start_service(query_token=QUERY)
    monkeypatch.setenv("EPOCHAL_SERVER", served.url)
    monkeypatch.delenv("EPOCHAL_ADMIN_TOKEN", raising=False)
    monkeypatch.setenv("EPOCHAL_QUERY_TOKEN", QUERY)
    assert main(["status"]) == 0
    assert main(["remove", "geo"]) == 1
    assert "the token is for queries" in capsys.readouterr().err


def test_history_and_a_rollback_without_a_target_name_what_is_kept(
    start_service, tmp_path, capsys, monkeypatch
):
    served = start_service(store=tmp_path / "store")
    for version in ("1.0", "2.0"):
        served.put_geo(version, params={"reason": "a try"})
    monkeypatch.setenv("EPOCHAL_SERVER", served.url)
    monkeypatch.setenv("EPOCHAL_ADMIN_TOKEN", ADMIN)
    assert main(["history", "geo", "--diff"]) == 0
    out = capsys.readouterr().out
    assert "reload geo 1.0 -> 2.0  http: a try" in out
    assert "load geo 1.0  http: a try" in out
    assert '+# version = "2.0"' in out
    assert main(["history", "--limit", "1", "--json"]) == 0
    (step,) = json.loads(capsys.readouterr().out)["epochs"]
    assert (step["number"], list(step["changes"])) == (2, ["geo"])
    assert main(["rollback", "geo"]) == 1
    assert "kept are generations 0 (1.0), 1 (2.0)" in capsys.readouterr().err
    assert main(["rollback", "gee"]) == 1
    assert "no version of 'gee' is kept" in capsys.readouterr().err
    assert main(["history", "--limit", "1000"]) == 0  # as many as the service gives
    assert main(["history", "--diff"]) == 2


def test_a_service_on_a_unix_socket_is_asked(tmp_path, capsys):
    asked = []

    def answer():
        connection, _ = sock.accept()
        with connection:
            asked.append(connection.recv(4096))
            body = b'{"jobs": []}'
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    with listen_locally(tmp_path / "e.sock") as sock:
        server = threading.Thread(target=answer)
        server.start()
        assert main(["jobs", "--server", f"unix:{tmp_path / 'e.sock'}"]) == 0
        server.join(10)
    assert asked[0].startswith(b"GET /v1/jobs ")
    assert b"localhost" in asked[0]
