"""`python -m tests.downstream`: run all suites and programs, or those that are named."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.downstream.suites import SUITES

if TYPE_CHECKING:
    from tests.downstream.suites import Suite

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent
PREPARED = REPOSITORY / ".venv/.downstream"
LIMIT_S = 900


def prepare(suite: Suite) -> Path:
    """The folder of a suite: its packages in `lib`, its tests in `sdist`; made once."""
    folder = PREPARED / suite.name
    if not (folder / "ready").exists():
        pip("install", "--target", str(folder / "lib"), "--upgrade", *suite.installs)
        if suite.sdist:
            options = ("--no-deps", "--no-binary", suite.sdist.partition("==")[0])
            pip("download", "--dest", str(folder), *options, suite.sdist)
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder / "sdist", filter="data")
        (folder / "ready").touch()
    return folder


def pip(*arguments: str) -> None:
    """Run pip quietly; its own words explain a failure."""
    quiet = ("--quiet", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", *arguments, *quiet], check=True, timeout=LIMIT_S)


def run(suite: Suite) -> bool:
    """Run one; returns whether it passed."""
    folder = prepare(suite)
    if suite.program is not None:
        command, cwd = [str(HERE / "programs" / f"{suite.program}.py")], folder
    else:
        options = ("-q", "-p", "no:cacheprovider", "--tb=short")
        command = [str(HERE / "beneath.py"), suite.beneath, *options, *suite.tests]
        (cwd,) = (folder / "sdist").iterdir()
    paths = (folder / "lib", REPOSITORY / "src", HERE)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=env, timeout=LIMIT_S, check=False
    )
    print(f"{'passed' if done.returncode == 0 else 'FAILED'}  {suite.name}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run what the command line names."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser("downstream", description=__doc__)
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(names)}; all by default")
    wanted = parser.parse_args().suites or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    return sum(not run(suite) for suite in SUITES if suite.name in wanted)


if __name__ == "__main__":
    sys.exit(main())
