"""An operator's hour: start, ask, upgrade, roll back, kill, start again, stop."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.sizes import IS_LONG

PLUGIN = """\
# /// plugin
# id = "vat"
# version = "{version}"
# ///
from epochal.kinds import scalar

@scalar(volatility="immutable")
def gross(net: float) -> float:
    return net * {rate}
"""
TOKEN = "a-token-of-thirty-two-characters-x"
SQL = "SELECT vat.gross(100.0) AS gross"

pytestmark = pytest.mark.skipif(not IS_LONG, reason="half a minute: in make test-long")


class Service:
    """`epochal serve` as a unit of systemd starts it, and commands that talk to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "EPOCHAL_ADMIN_TOKEN": TOKEN}

    def start(self) -> None:
        arguments = ["--port", "0", "--plugins", "plugins", "--store", "store"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "epochal.cli", "serve", *arguments, "--log-format", "json"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        for line in self.process.stdout:
            if found := re.search(r"Epochal serves at (\S+)", line):
                self.url = found[1]
                return
        raise AssertionError((self.folder / "log").read_text())

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.process.stdout.close()
        return status

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "epochal.cli", *arguments],
            cwd=self.folder,
            env={**self.environment, "EPOCHAL_SERVER": self.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def get(self, path: str, body: object = None) -> object:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def ask(self) -> float:
        return self.get("/v1/query", {"sql": SQL})["rows"][0][0]


@pytest.fixture
def service(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/vat.py").write_text(PLUGIN.format(version="1.0", rate=1.2))
    service = Service(tmp_path)
    service.start()
    yield service
    if service.process.poll() is None:
        service.end(signal.SIGKILL)


def test_an_operator_upgrades_rolls_back_loses_power_and_stops(service):
    assert service.get("/readyz") == {"status": "ready"}
    assert round(service.ask()) == 120

    (service.folder / "vat_next.py").write_text(PLUGIN.format(version="1.1", rate=1.5))
    service.run("load", "vat_next.py", "--reason", "ticket 17")
    assert round(service.ask()) == 150

    broken = PLUGIN.format(version="1.2", rate="no_such_name").replace("return", "oops(")
    (service.folder / "broken.py").write_text(broken)
    with pytest.raises(AssertionError, match="SyntaxError"):
        service.run("load", "broken.py")
    assert round(service.ask()) == 150

    service.end(signal.SIGKILL)  # the power goes
    service.start()
    assert round(service.ask()) == 150, "the store has the last commit, whatever the folder has"

    service.run("rollback", "vat", "--to", "1.0")
    assert round(service.ask()) == 120
    assert "ticket 17" in json.dumps(service.get("/v1/epochs"))

    assert service.end(signal.SIGTERM) == 0
    with pytest.raises(urllib.error.URLError):
        service.ask()
