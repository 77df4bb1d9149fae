"""Jobs over HTTP and from the command line."""

import json
import time

import pytest
from tests.server.conftest import ADMIN

from epochal.cli import main
from epochal.jobs import Jobs
from epochal.server import ServiceState
from epochal.sql import Database

HOUSE = """\
# /// plugin
# id = "house"
# version = "1.0"
# ///
from epochal.kinds import job

@job(every="1h")
def sweep():
    pass

@job(cron="0 6 * * mon-fri")
def report():
    raise OSError("no network")
"""


@pytest.fixture
def house(start_service):
    served = start_service()
    assert served.put("house", HOUSE).status_code == 201
    wait_for(served, lambda jobs: len(jobs) == 2)
    return served


def jobs_of(served):
    return served.http.get("/v1/jobs").json()["jobs"]


def wait_for(served, condition):
    for _ in range(2000):
        if condition(jobs_of(served)):
            return
        time.sleep(0.005)
    raise AssertionError(f"the condition did not come true: {jobs_of(served)}")


def test_jobs_are_listed(house):
    answer = house.http.get("/v1/jobs")
    assert answer.status_code == 200
    assert answer.json()["epoch"]["number"] == 1
    report, sweep = answer.json()["jobs"]
    assert (sweep["job"], sweep["plugin"], sweep["schedule"]) == (
        "house.sweep",
        "house",
        "every 3600 s",
    )
    assert 0 < sweep["next_at"] - time.time() <= 3600
    assert report["schedule"] == "cron 0 6 * * mon,tue,wed,thu,fri"
    assert (report["running"], report["queued"], report["circuit"]) == (False, False, "closed")


def test_running_a_job_needs_the_admin_token(house):
    assert house.http.post("/v1/jobs/house.report/run").status_code == 401
    answer = house.admin.post("/v1/jobs/house.report/run")
    assert answer.status_code == 202
    assert answer.json()["job"] == "house.report"
    wait_for(house, lambda jobs: jobs[0]["failures"] == 1)
    assert jobs_of(house)[0]["last_error"] == "OSError: no network (<house>/house.py, line 13)"


@pytest.mark.parametrize("name", ["house.nothing", "house", "a.b%2Fc"])
def test_an_unknown_job_is_not_found(house, name):
    answer = house.admin.post(f"/v1/jobs/{name}/run")
    assert answer.status_code == 404


def test_a_run_takes_no_body(house):
    answer = house.admin.post("/v1/jobs/house.sweep/run", content="x")
    assert (answer.status_code, answer.json()["code"]) == (400, "request")


def test_a_service_that_stops_runs_no_job(house):
    house.service.stopping = True
    answer = house.admin.post("/v1/jobs/house.sweep/run")
    assert (answer.status_code, answer.json()["code"]) == (503, "stopping")
    house.service.stopping = False


def test_a_service_without_jobs_has_none(rt):
    with Database(rt) as database:
        assert ServiceState(rt, database).jobs is None


def test_the_command_lists_and_runs_jobs(house, capsys, monkeypatch):
    monkeypatch.setenv("EPOCHAL_SERVER", house.url)
    monkeypatch.setenv("EPOCHAL_ADMIN_TOKEN", ADMIN)
    assert main(["jobs", "--run", "house.report"]) == 0
    assert "house.report: queued" in capsys.readouterr().out
    wait_for(house, lambda jobs: jobs[0]["failures"] == 1)
    assert main(["jobs"]) == 0
    out = capsys.readouterr().out
    assert "house.sweep" in out
    assert "every 3600 s" in out
    assert "OSError: no network" in out
    assert main(["jobs", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["jobs"]) == 2
    assert main(["jobs", "--run", "house.nothing"]) == 1
    assert "no job named 'house.nothing'" in capsys.readouterr().err
    house.admin.delete("/v1/plugins/house")
    wait_for(house, lambda jobs: not jobs)
    assert main(["jobs"]) == 0
    assert capsys.readouterr().out == "no jobs\n"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"running": True}, "runs"),
        ({"queued": True}, "waits for a worker"),
        ({"circuit": "open"}, "held back, circuit open"),
        ({"failures_in_row": 2}, "held back"),
        ({}, "waits"),
    ],
)
def test_job_states_are_shown_in_words(facts, words):
    from epochal.cli.commands.jobs import _state, _when

    usual = {"running": False, "queued": False, "circuit": "closed", "failures_in_row": 0}
    assert _state(usual | facts) == words
    assert _when(None) == "-"


def test_jobs_end_with_their_service(house):
    jobs = house.service.jobs
    house.stop()
    assert house.ended
    assert isinstance(jobs, Jobs)
    assert jobs._table.closed
