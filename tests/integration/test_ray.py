"""Ray runs any epoch, from its id: in `make test-long` alone, where Ray is installed.

Ray wants a network of its own, so that its ports meet no others: a namespace with only `lo` up.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.sizes import IS_LONG

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="Ray takes half a minute: make test-long"),
    pytest.mark.skipif(find_spec("ray") is None, reason="needs epochal[ray]"),
    pytest.mark.skipif(
        os.name == "nt" or shutil.which("unshare") is None, reason="needs a network namespace"
    ),
    pytest.mark.timeout(600),
]


def test_queries_in_parts_run_one_epoch_each_while_plugins_change_and_workers_die(tmp_path):
    program = Path(__file__).with_name("ray_program.py")
    command = f'ip link set lo up && exec "{sys.executable}" "{program}" "{tmp_path}" 20 50000 6'
    ran = subprocess.run(
        ["unshare", "--net", "sh", "-c", command],
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    assert found["queries"] >= 20
    assert found["reloads"] >= 1
    assert found["kills"] >= 1
    assert found["mixed"] == found["lost"] == found["wrong"] == 0
    assert found["progress"]
    assert found["task_on_old"]
    assert found["task_on_new"]
    assert found["prepared"]
    assert found["refused"]
    assert found["serves"] == 1000
