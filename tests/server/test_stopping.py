"""Stop signals of a process that serves."""

import json
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from epochal.server.shutdown import StopSignals

COMMAND = [sys.executable, "-m", "epochal.cli", "serve"]

STUCK = """\
# /// plugin
# id = "stuck"
# version = "1"
# ///
import logging
import threading
from epochal.kinds import scalar

logging.getLogger("elsewhere").warning("is loaded")
GO_ON = threading.Event()

@scalar
def f(x: int) -> int:
    GO_ON.wait(60)
    return x

def shutdown():
    print("in shutdown", flush=True)
    GO_ON.wait(60)
"""


@pytest.fixture
def serve(tmp_path):
    """Run `epochal serve` with a plugin that is stuck in its shutdown; returns when it serves."""
    (tmp_path / "stuck.py").write_text(STUCK)
    running = []

    def serve(*options):
        process = subprocess.Popen(
            [*COMMAND, "--plugins", str(tmp_path), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        url = None
        while "The page" not in (line := process.stdout.readline()):
            assert process.poll() is None, process.stderr.read()
            url = line.split()[-1]
        return process, url

    yield serve
    for process in running:
        process.kill()
        process.communicate(timeout=20)


def test_a_function_that_does_not_return_is_named_in_the_json_log(serve):
    process, url = serve("--stop-timeout", "1", "--log-format", "json")
    asked = {"sql": "SELECT stuck.f(1)", "timeout": 2.0}
    assert httpx.post(f"{url}/v1/query", json=asked, timeout=20).status_code == 504
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 1
    lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert "elsewhere" in {line["logger"] for line in lines}
    (last,) = [line for line in lines if "did not return in time" in line["message"]]
    assert "stuck.py" in last["message"]
    assert "in f" in last["message"]


IGNORED = pytest.mark.skipif(
    signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="nohup: the service inherits it"
)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGHUP, marks=IGNORED)]
)
def test_the_third_signal_exits_at_any_stage_of_the_stop(serve, number):
    process, _ = serve("--stop-timeout", "50")
    process.send_signal(number)
    assert process.stdout.readline() == "in shutdown\n"  # the event loop has ended by now
    process.send_signal(number)
    while "once more leaves at once" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(20) == 1
    assert "Traceback" not in process.stderr.read()


STUCK_IN_C = """
import ctypes
from epochal.server.shutdown import StopSignals

with StopSignals():
    print("stuck", flush=True)
    mutex = ctypes.create_string_buffer(256)
    for _ in range(2):  # the second time the thread waits for itself
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="blocks in Linux's C library")
def test_the_third_signal_exits_though_the_main_thread_is_stuck():
    with subprocess.Popen(
        [sys.executable, "-c", STUCK_IN_C], stdout=subprocess.PIPE, text=True
    ) as it:
        try:
            assert it.stdout.readline() == "stuck\n"
            for _ in range(3):
                it.send_signal(signal.SIGTERM)
                time.sleep(0.1)  # equal signals that are pending merge
            assert it.wait(20) == 1
        finally:
            it.kill()


def test_signal_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        assert signal.getsignal(signal.SIGTERM) not in before
        signal.raise_signal(signal.SIGTERM)
        until = time.monotonic() + 20
        while not stop.is_requested and time.monotonic() < until:
            time.sleep(0.01)
    assert stop.is_requested
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert "signals" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        ("", ["--plugins", "nope"], "nope is not a folder"),
        ("", ["--watch", "nope"], "nope is not a folder"),
        ("", ["--table", "a=nope.csv"], "nope.csv does not exist"),
        ("def f(:", [], "stuck.py` lists all faults"),
        ("1/0", [], "epochal check"),
        ("def f(:", [], "stuck.py, line"),
    ],
)
def test_a_failed_start_is_explained_and_publishes_nothing(tmp_path, more, options, message):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "stuck.py").write_text(f"{STUCK}\n{more}\n")
    options = [*options, "--plugins", plugins] if "--plugins" not in options else options
    started = subprocess.run(
        [*COMMAND, "--port", "0", "--store", "state", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert started.returncode == 1
    assert message in " ".join(started.stderr.split())
    assert "load stuck" not in started.stderr
