"""A look at another thread's stack read a function as a frame, which may crash the process.

Before Python 3.12, creating a frame object may start a collection. Its callbacks and finalizers can
switch to the inspected thread, and its call may have returned by the time the look goes on. The
look then reads the object in the call's reused memory as a frame. Found by the test of the
demonstration, with six processes on two processors.
"""

import gc
import subprocess
import sys
import threading

import pytest

from epochal._core.introspect.frames import undisturbed

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="no collection begins within an instruction"
)

CALLS = """
import gc, random, sys, threading, time
from epochal._core.introspect.running_code import frames_of_threads

def leaf(n): return n

CALLS = []
for count in range(1, 24):  # calls of all sizes, so that none lies where another lay
    names = ", ".join(f"v{n}" for n in range(count))
    body = f"    {names}, = [leaf] * {count}\\n    return choice(CALLS)(n - 1) if n else n"
    made = {"leaf": leaf, "CALLS": CALLS, "choice": random.choice}
    exec(f"def call(n):\\n{body}", made)
    CALLS.append(made["call"])

def work():
    while True: random.choice(CALLS)(random.randrange(40))

def give_way(phase, info):
    if phase == "start" and sys._getframe(1).f_code.co_name in LOOKS: time.sleep(0.0005)

LOOKS = ("innermost_calls", "calls_of", "frames_of_threads")

for _ in range(4): threading.Thread(target=work, daemon=True).start()

gc.callbacks.append(give_way)
gc.set_threshold(3, 1000, 1000)
end = time.monotonic() + 2.0
while time.monotonic() < end:
    for _ in frames_of_threads(): pass
print("done", flush=True)
import os
os._exit(0)
"""


def test_a_look_beside_ending_calls_sees_frames():
    done = subprocess.run(
        [sys.executable, "-c", CALLS], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with undisturbed(), undisturbed():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_on_after_nested_looks_in_many_threads():
    def look():
        for _ in range(200):
            with undisturbed(), undisturbed():
                assert not gc.isenabled()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert gc.isenabled()


def test_a_fork_during_a_look_has_its_collector_on():
    script = """
import gc, os, threading
from epochal._core.introspect.frames import undisturbed
inside, go_on = threading.Event(), threading.Event()
def look():
    with undisturbed():
        inside.set()
        go_on.wait(30)
threading.Thread(target=look, daemon=True).start()
assert inside.wait(30)
child = os.fork()
if child == 0:
    was = gc.isenabled()
    with undisturbed():
        pass
    os._exit(0 if was and gc.isenabled() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
go_on.set()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "0\n", done.stderr
