"""Ray runs any epoch, from its id: in `make test-long` alone, where Ray is installed.

Ray wants a network of its own, so that its ports meet no others: a namespace with only `lo` up.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.sizes import IS_LONG, sized

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="Ray takes half a minute: make test-long"),
    pytest.mark.skipif(find_spec("ray") is None, reason="needs epochal[ray]"),
    pytest.mark.skipif(
        os.name == "nt" or shutil.which("unshare") is None, reason="needs a network namespace"
    ),
    pytest.mark.timeout(1800),
]


def in_a_network(command: str) -> subprocess.Popen[str]:
    """Begin a command of Python where Ray's ports meet no others."""
    return subprocess.Popen(
        ["unshare", "--net", "sh", "-c", f'ip link set lo up && exec "{sys.executable}" {command}'],
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_queries_in_parts_run_one_epoch_each_while_plugins_change_and_workers_die(tmp_path):
    program = Path(__file__).with_name("ray_program.py")
    with in_a_network(f'"{program}" "{tmp_path}" 20 50000 6') as ran:
        out, errors = ran.communicate(timeout=500)
    assert ran.returncode == 0, errors[-4000:]
    found = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
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
    assert found["merged"]
    assert found["replaced"]
    assert found["replaced_ended"] == [True]
    assert found["failed"]
    assert found["nowhere"]


@pytest.mark.parametrize(("attack", "count"), [("kills", sized(8, 8, 100)), ("changes", 50)])
def test_no_row_is_wrong_after_attacks(tmp_path, attack, count):
    program = Path(__file__).with_name("ray_attacks.py")
    with in_a_network(f'"{program}" "{tmp_path}" {attack} {count} 1') as ran:
        _, errors = ran.communicate(timeout=1700)
    assert ran.returncode == 0, errors[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found[attack] >= count
    assert found["mixed"] == found["lost"] == found["doubled"] == found["wrong"] == 0


CLUSTER = """
import subprocess, sys
ray = [sys.executable, "-m", "ray.scripts.scripts"]
try:
    subprocess.run([*ray, "start", "--head", "--include-dashboard=false"], check=True, timeout=120)
    subprocess.run([sys.executable, "report.py"], check=True, timeout=240)
finally:
    subprocess.run([*ray, "stop", "--force"], check=True, timeout=60)
"""


def test_the_documented_program_runs_on_a_cluster(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    plugin = text.partition('```python title="geo.py"\n')[2].partition("```")[0]
    program = text.partition("    import pyarrow as pa\n    import ray\n")
    program = textwrap.dedent(program[1] + program[2].partition("\nIt prints ")[0])
    (tmp_path / "geo.py").write_text(plugin)
    (tmp_path / "report.py").write_text(program.replace("/tmp/", f"{tmp_path}/"))
    (tmp_path / "cluster.py").write_text(CLUSTER)
    monkeypatch.chdir(tmp_path)
    with in_a_network("cluster.py") as ran:
        out, errors = ran.communicate(timeout=450)
    assert ran.returncode == 0, errors[-4000:]
    assert "[[2, 4], [6]]\n" in out
    assert "4 of 4\n" in out
    assert "[('LGA', 7.0, 4), ('JFK', 5.0, 4)] 1.0 " in out
    assert "for current epoch of " in out


def test_the_demonstration_finds_no_wrong_row_and_says_so():
    with in_a_network("-m epochal.demo.scale --rows 200000 --turns 1") as ran:
        out, errors = ran.communicate(timeout=300)
    assert ran.returncode == 0, errors[-4000:]
    assert "\n0 rows of a mix, lost or doubled\n" in out
    assert "20 reloads of both plugins, 1 worker killed" in out
    assert "times as fast as one process" in out


def test_the_interrupted_demonstration_says_what_was_checked():
    with in_a_network("-m epochal.demo.scale --rows 50000 --reloads 100000") as ran:
        assert ran.stderr is not None
        for line in ran.stderr:
            if line.startswith("query 2"):
                break
        ran.send_signal(signal.SIGINT)
        out, _ = ran.communicate(timeout=60)
    assert ran.returncode == 130
    assert "interrupted; checked so far:\n" in out
    assert "\n0 rows of a mix, lost or doubled\n" in out
