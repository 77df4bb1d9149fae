"""Signals, as a process that serves hears them."""

import signal
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "epochal.cli", "serve"]

STUCK = """\
# /// plugin
# id = "stuck"
# version = "1"
# ///
import threading
from epochal.kinds import scalar

GO_ON = threading.Event()

@scalar
def f(x: int) -> int:
    return x

def shutdown():
    print("in shutdown", flush=True)
    GO_ON.wait(60)
"""


@pytest.fixture
def serve(tmp_path):
    """`epochal serve` of one plugin that is stuck in its shutdown; the process, when it serves."""
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
        while "The page" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        return process

    yield serve
    for process in running:
        process.kill()
        process.communicate(timeout=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_heard_until_the_end_and_the_third_leaves(serve, number):
    process = serve("--stop-timeout", "50")
    process.send_signal(number)
    assert process.stdout.readline() == "in shutdown\n"  # the event loop is over by now
    process.send_signal(number)
    while "once more leaves at once" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(20) == 1
    assert "Traceback" not in process.stderr.read()
