"""A forked child finds no lock of the process held by a thread that it does not have."""

import subprocess
import sys

SCRIPT = """
import contextlib, importlib, os, pkgutil, sys, threading
import epochal
for module in pkgutil.walk_packages(epochal.__path__, "epochal."):
    if module.name.rpartition(".")[2] not in {"__main__", "trial_child"}:
        with contextlib.suppress(ImportError):  # of a library that is not installed
            importlib.import_module(module.name)
LOCKS = (type(threading.Lock()), type(threading.RLock()))

def places():
    for name, module in sorted(sys.modules.items()):
        if name.startswith("epochal."):
            for key, value in vars(module).items():
                if isinstance(value, LOCKS) and key != "_observed":  # acquired for good by a thread
                    yield module, key
    yield sys.modules["epochal.loaders._compiler"].COMPILER, "_lock"

held = threading.Event()
found = list(places())

def hold():
    for owner, key in found:
        getattr(owner, key).acquire()
    held.set()
    threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
assert held.wait(20)
if (child := os.fork()) == 0:
    stuck = [key for owner, key in found if not getattr(owner, key).acquire(blocking=False)]
    print(len(found), stuck, flush=True)
    os._exit(1 if stuck else 0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # its locks are still held
"""


WITHOUT_FORKS = """
import os
del os.fork, os.register_at_fork
import epochal.loaders._prometheus, epochal.loaders._worker_processes
from epochal import Runtime
with Runtime() as rt:
    pass
"""


def test_a_system_without_forks_can_import_and_run_it():
    command = [sys.executable, "-c", WITHOUT_FORKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_forked_child_finds_every_lock_of_the_process_free():
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 7
