"""Daft and Spark run the functions of an epoch: in `make test-long` alone, which installs them.

Each has a process of its own, in a network of its own.
"""

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.integration.test_ray import in_a_network
from tests.sizes import IS_LONG

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="engines take half a minute: make test-long"),
    pytest.mark.skipif(
        os.name == "nt" or shutil.which("unshare") is None, reason="needs a network namespace"
    ),
    pytest.mark.timeout(900),
]
JAVA = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17")


def needs(module, extra):
    return pytest.mark.skipif(find_spec(module) is None, reason=f"needs epochal[{extra}]")


@pytest.mark.parametrize(
    ("engine", "how"),
    [
        pytest.param("daft", "native", marks=needs("daft", "daft")),
        pytest.param("daft", "ray", marks=[needs("daft", "daft"), needs("ray", "ray")]),
        pytest.param("spark", "classic", marks=[needs("pyspark", "spark"), JAVA]),
        pytest.param("spark", "connect", marks=[needs("grpc_status", "spark"), JAVA]),
    ],
)
def test_each_query_runs_one_epoch_with_its_functions(tmp_path, engine, how, monkeypatch):
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    program = Path(__file__).with_name("engine_program.py")
    with in_a_network(f'"{program}" {engine} {how} "{tmp_path}"') as ran:
        _, errors = ran.communicate(timeout=800)
    assert ran.returncode == 0, errors[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) >= 12
    assert {name: kept for name, kept in found.items() if kept is not True} == {}
