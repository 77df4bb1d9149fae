"""The whole of it, as a new user does it: serve, write a plugin, see it, edit it under load."""

import os
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright
from tests.server.conftest import ADMIN
from tests.server.test_page import BROWSER

COMMAND = [sys.executable, "-m", "epochal.cli"]


@pytest.fixture
def serve(tmp_path):
    """`epochal serve` in an empty folder; gives its address and its link."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home)}
    # Its output is no terminal, so a token that it made would not be shown.
    environment["EPOCHAL_ADMIN_TOKEN"] = ADMIN
    running = []

    def serve(*arguments):
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        first, second = process.stdout.readline(), process.stdout.readline()
        url = first.split()[-1]
        assert ADMIN not in second
        return process, url, f"{url}/#token={ADMIN}"

    yield serve
    for process in running:
        process.kill()
        process.communicate(timeout=20)


class Load:
    """Runs the same query again and again."""

    def __init__(self, url):
        self.answers, self.failures = [], []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with httpx.Client(base_url=self._url, timeout=20) as http:
            while not self._stop.is_set():
                answer = http.post("/v1/query", json={"sql": "SELECT geo.greet('world')"})
                if answer.status_code == 200:
                    self.answers.append(answer.json())
                else:
                    self.failures.append(answer.text)

    def stop(self):
        self._stop.set()
        self._thread.join(30)


@pytest.mark.timeout(120)
@pytest.mark.skipif(BROWSER is None and not os.environ.get("CI"), reason="no chromium")
def test_a_plugin_is_written_loaded_and_edited_under_load(serve, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    options = ["--plugins", "plugins", "--watch", "plugins", "--store", "state"]
    process, url, link = serve(*options)
    assert url.startswith("http://127.0.0.1:")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(link)
        expect(page.locator("#no-plugins")).to_be_visible()
        subprocess.run([*COMMAND, "new", "geo", "--folder", "plugins"], cwd=tmp_path, check=True)
        row = page.locator('tr[data-plugin="geo"]')
        expect(row).to_contain_text("0.1.0", timeout=15_000)
        load = Load(url)
        source = (plugins / "geo.py").read_text()
        for number in range(2, 6):
            text = source.replace("0.1.0", f"0.{number}.0").replace("Hello", f"Hello {number},")
            (plugins / "geo.py").write_text(text)
            expect(row).to_contain_text(f"0.{number}.0", timeout=15_000)
        (plugins / "geo.py").write_text(source + "\n1/0\n")
        expect(page.locator("#notes .failed")).to_contain_text("ZeroDivisionError", timeout=15_000)
        expect(row).to_contain_text("0.5.0")
        load.stop()
        browser.close()
    assert not load.failures
    for answer in load.answers:
        number = answer["provenance"][0]["version"].split(".")[1]
        hello = "Hello" if number == "1" else f"Hello {number},"
        assert answer["rows"] == [[f"{hello}, world!"]]
    assert {answer["provenance"][0]["version"] for answer in load.answers} >= {"0.5.0"}
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log


def test_a_killed_service_restarts_with_its_last_epoch(serve, tmp_path):
    subprocess.run([*COMMAND, "new", "geo", "--folder", "plugins"], cwd=tmp_path, check=True)
    process, url, _ = serve("--plugins", "plugins", "--store", "state")
    before = httpx.get(f"{url}/v1/status").json()["epoch"]
    process.kill()
    process.communicate(timeout=20)
    (tmp_path / "plugins" / "geo.py").write_text("1/0\n")
    _, url, _ = serve("--plugins", "plugins", "--store", "state")
    assert httpx.get(f"{url}/v1/status").json()["epoch"] == before
    answer = httpx.post(f"{url}/v1/query", json={"sql": "SELECT geo.greet('you')"}).json()
    assert answer["rows"] == [["Hello, you!"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plugins", "nowhere"], "is not a folder"),
        (["--watch", "nowhere"], "is not a folder"),
        (["--host", "0.0.0.0"], "EPOCHAL_ADMIN_TOKEN and EPOCHAL_QUERY_TOKEN"),
        (["--table", "nothing"], "NAME=PATH"),
        (["--table", "t=nowhere.parquet"], "nowhere.parquet"),
        (["--token-file", "nowhere"], "cannot be read"),
        (["--host", "256.1.1.1"], "256.1.1.1"),
    ],
)
def test_a_bad_start_is_explained_and_starts_nothing(tmp_path, arguments, message):
    done = subprocess.run(
        [*COMMAND, "serve", "--port", "0", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_port_in_use_is_reported(serve, tmp_path):
    _, url, _ = serve()
    port = url.rpartition(":")[2]
    done = subprocess.run(
        [*COMMAND, "serve", "--port", port],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


JOB = """
# /// plugin
# id = "house"
# version = "{version}"
# ///
from pathlib import Path
from epochal.kinds import job

@job(every="20ms")
def sweep():
    with Path("ticks").open("a") as file:
        print("{version}", file=file)
    {body}
"""


def ticks(folder):
    path = folder / "ticks"
    return path.read_text().split() if path.exists() else []


def test_jobs_of_plugins_run_and_the_service_ends_with_them(serve, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "house.py").write_text(JOB.format(version="1.0", body=""))
    process, url, _ = serve("--plugins", "plugins", "--watch", "plugins", "--store", "state")
    with httpx.Client(base_url=url, timeout=20):
        while len(ticks(tmp_path)) < 3:
            assert process.poll() is None
        (plugins / "house.py").write_text(JOB.format(version="2.0", body=""))
        while "2.0" not in ticks(tmp_path):
            assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_a_job_that_does_not_return_does_not_block_the_stop(serve, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    body = "import time; time.sleep(600)"
    (plugins / "house.py").write_text(JOB.format(version="1.0", body=body))
    process, _, _ = serve("--plugins", "plugins", "--stop-timeout", "1")
    while not ticks(tmp_path):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 1
    assert "did not return in time" in process.stderr.read()
