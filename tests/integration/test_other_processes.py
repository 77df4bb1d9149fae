"""Exports that are called in other processes, which die at any instant."""

import pickle
import random
import signal
import subprocess
import sys

import pytest
from tests.sizes import sized

from epochal import Runtime
from epochal.kinds import scalar

WORKER = """
import pickle, sys
from epochal.errors import EpochalError
while line := sys.stdin.readline():
    function, numbers = pickle.loads(bytes.fromhex(line))
    try:
        answer = [function(n) for n in numbers]
    except EpochalError as error:
        answer = error
    print(pickle.dumps(answer).hex(), flush=True)
"""


class Worker:
    def __init__(self, folder):
        self._folder = folder
        self._start()

    def _start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
        )

    def begin(self, function, numbers):
        self.process.stdin.write(pickle.dumps((function, numbers)).hex() + "\n")
        self.process.stdin.flush()

    def end(self):
        """The answer; None if the worker died."""
        line = self.process.stdout.readline()
        return pickle.loads(bytes.fromhex(line)) if line.endswith("\n") else None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.close()
        self._start()

    def close(self):
        self.process.kill()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def worker(tmp_path):
    made = Worker(tmp_path)
    yield made
    made.close()


def write(folder, n):
    path = folder / "geo.py"
    path.write_text(
        '# /// plugin\n# id = "geo"\n# version = "1"\n# ///\nfrom epochal.kinds import scalar\n'
        f"@scalar\ndef f(x: int) -> int: return x + {n}\n"
    )
    return path


def test_workers_that_are_killed_answer_with_the_epoch_that_was_asked(tmp_path, worker):
    draw = random.Random(20)
    with Runtime(share=tmp_path / "share") as rt:
        rt.load(write(tmp_path, 0))
        kills = 0
        for n in range(sized(3, 20, 100)):
            if n:
                rt.reload("geo", write(tmp_path, n))
            function = rt.epoch.remote[scalar]["geo.f"]
            numbers = list(range(sized(10, 200, 2000)))
            answer = None
            for _ in range(10):
                worker.begin(function, numbers)
                if kills <= n and (not kills or draw.random() < 0.6):
                    kills += 1
                    if draw.random() < 0.5:
                        worker.end()
                    worker.kill()
                    continue
                answer = worker.end()
                if answer is not None:
                    break
            assert answer == [x + n for x in numbers]
        assert kills


def test_a_process_without_the_share_says_so(tmp_path, worker):
    with Runtime(share="memory://of-this-process") as rt:
        rt.load(write(tmp_path, 1))
        worker.begin(rt.epoch.remote[scalar]["geo.f"], [1])
        error = worker.end()
        assert error.code == "epoch-unavailable"
        assert str(worker.process.pid) in error.worker
        assert "is not in the share" in str(error)
