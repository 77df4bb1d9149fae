"""`make demo` prepares what the demonstration needs, and nothing of the developers' tools."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The commands of `make demo` in a fresh copy, not run."""
    return steps_of("demo", tmp_path_factory)


def steps_of(target, tmp_path_factory):
    if (make := shutil.which("make")) is None:
        pytest.skip("no make here")
    folder = tmp_path_factory.mktemp("fresh copy")  # with a space in its name
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    # Not what `make test` has for the commands that it runs, as this test may be one of them.
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "ARGS"))}
    done = subprocess.run(
        [make, "--dry-run", target],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_only_what_the_demonstration_needs_is_installed(steps):
    assert "--group" not in steps
    assert steps.count(" -m pip install ") == 2
    assert "380 MB" in steps
    assert steps.index("380 MB") < steps.index(" -m pip install ")
    assert steps.rstrip().endswith("-m epochal.cli demo")
    assert re.search(r"pip install (?!.*--quiet).* -r ", steps), "with pip's progress"


def test_the_demonstration_over_ray_installs_ray_and_says_so(tmp_path_factory):
    steps = steps_of("demo-ray", tmp_path_factory)
    assert "--group" not in steps
    assert steps.count(" -m pip install ") == 3
    assert steps.index("380 MB") < steps.index("260 MB") < steps.rindex(" -m pip install ")
    assert "--quiet" not in steps[steps.index("260 MB") :]
    assert steps.rstrip().endswith("-m epochal.demo.scale")


def test_the_demonstration_needs_no_extra_but_the_command(steps):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = extras["sql"] + extras["cli"] + extras["wasm"]
    assert {re.split(r"\W", each)[0] for each in needed} <= {
        "datafusion",
        "epochal",
        "httpx",
        "pyarrow",
        "rich",
        "typer",
        "wasmtime",
    }
