"""Changes that signals, foreign exceptions, forks and the process's end meet at any instant."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.sizes import sized

ROOT = Path(__file__).parents[2]
RUNS = sized(24, 80, 1000)


def in_a_process(*args, folder=None):
    done = subprocess.run(
        [sys.executable, *args, *([folder] if folder else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=sized(100, 1000, 3000),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_instant_of_a_change_loses_a_turn_or_leaves_half_an_epoch():
    printed = in_a_process("-m", "tests.integration.disturbances", str(RUNS), "--seed", "3")
    counts = json.loads(printed)
    assert sum(counts.values()) == RUNS
    assert counts["interrupted"] >= RUNS // 10


PROLOGUE = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, ".")
from tests.conftest import PluginFolder, tool
from epochal import Runtime
plugins = PluginFolder(Path(sys.argv[1]))
rt = Runtime(drain_timeout=20)
GOOD = "@tool\\ndef f(): return 1\\n"
rt.load(plugins.write("geo", GOOD))
"""


def script(code, tmp_path):
    return in_a_process("-c", PROLOGUE + textwrap.dedent(code), folder=str(tmp_path))


def test_a_fork_in_the_middle_of_a_change_serves_in_both_processes(tmp_path):
    printed = script(
        """
        WAITING, GO = threading.Event(), threading.Event()
        slow = "import __main__ as host\\ndef init(ctx): host.WAITING.set(); host.GO.wait(20)\\n"
        source = plugins.write("geo", slow + GOOD)
        thread = threading.Thread(target=rt.reload, args=("geo", source))
        thread.start()
        assert WAITING.wait(20)
        if not (child := os.fork()):
            new = Runtime()
            GO.set()
            new.load(source)
            new.reload("geo")
            os._exit(new.epoch[tool]["geo.f"]() - 1)
        GO.set()
        thread.join(20)
        print(os.waitpid(child, 0)[1], rt.epoch.number, rt.reload("geo").drained)
        rt.close()
        """,
        tmp_path,
    )
    assert printed.split() == ["0", "2", "True"]


def test_a_process_ends_in_the_middle_of_a_drain(tmp_path):
    printed = script(
        """
        held = rt.epoch[tool]["geo.f"]
        print(rt.reload("geo", drain_timeout=0.0).drained, held())
        """,
        tmp_path,
    )
    assert printed.split() == ["False", "1"]
