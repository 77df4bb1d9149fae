"""`epochal serve`, where something is wrong before it serves."""

import socket
from functools import partial

import pytest

from epochal.cli.commands import serve
from epochal.errors import HostError, RuntimeClosedError
from epochal.jobs import Jobs
from epochal.server import ServiceLimits
from epochal.server.tokens import Tokens


@pytest.fixture
def service(tmp_path):
    service, _ = serve._service(None, tmp_path / "store", {}, [], ServiceLimits(stop_s=5.0), {})
    yield service
    service.jobs.close()
    service.runtime.close()


def test_a_failed_start_closes_everything_it_opened(service, monkeypatch):
    def fails(*_, **__):
        raise HostError("no such folder")

    monkeypatch.setattr("epochal.watch.Watcher", fails)
    with socket.socket() as sock, pytest.raises(HostError, match="no such folder"):
        tokens = Tokens(admin="a", query=None, is_generated=True)
        serve._run(service, tokens, sock, [], partial(serve._watcher, "."))
    with pytest.raises(RuntimeClosedError):
        service.runtime.operation()
    assert service.jobs._table.closed


def test_its_jobs_are_its_own(service):
    with pytest.raises(HostError, match="run already"):
        Jobs(service.runtime)


def test_a_damaged_file_of_positions_does_not_stop_it(tmp_path):
    limits = ServiceLimits(stop_s=5.0)
    first, _ = serve._service(None, tmp_path / "store", {}, [], limits, {})
    serve_end(first)
    (tmp_path / "store" / "jobs.db").write_bytes(b"garbage" * 1000)
    again, _ = serve._service(None, tmp_path / "store", {}, [], limits, {})
    assert again.jobs.status() == []
    serve_end(again)


def serve_end(service):
    from epochal.server.serve import end

    assert end(service)
