"""E8 under SIGKILL: the next start serves the last committed epoch, whenever the process died."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sizes import sized

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="kills forks"),
]


def crashes(*arguments, module="tests.crash"):
    """Run a program that kills, and fails at the first violation; returns its counts."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_e8_killed_at_random_instants_the_last_committed_epoch_comes_back():
    seen = crashes(sized("40", "80", "500"), "--seed", "1")
    # Forks restored an epoch, finished changes, and died within a change before its commit. (How
    # many die within one after its commit depends on the machine.)
    assert min(seen["restored"], seen["done"], seen["before"]) >= 5, seen


def test_e8_killed_at_lines_of_a_commit_the_epoch_before_or_after_comes_back():
    seen = crashes("--lines", "--every", sized("5", "3", "1"))
    assert seen["finished"] == 1
    assert seen["before"] >= 30, seen
    assert seen["after"] >= 2, seen
    assert seen["before"] + seen["after"] + 1 == seen["begin"]
