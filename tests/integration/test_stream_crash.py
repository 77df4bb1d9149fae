"""A stream whose process is killed at random instants loses nothing, and repeats nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sizes import sized


@pytest.mark.timeout(sized(180, 1800))
@pytest.mark.skipif(sys.platform == "win32", reason="kills forks")
def test_every_change_arrives_in_order_and_once():
    kills = sized(15, 300)
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.stream", str(kills)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["changes"] >= 10 * kills
    assert seen["files"] >= kills // 2
