"""Runs one scenario with one system, in this process or in its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from conformance.scenarios import SCENARIOS
from conformance.size import FULL, QUICK
from conformance.system import Outcome
from conformance.systems import SYSTEMS

_LIMIT_S = 180.0
ROOT = Path(__file__).parents[1]


def run_here(system: str, scenario: str, *, quick: bool) -> Outcome:
    """Run a scenario with a system in this process."""
    if scenario in SYSTEMS[system].lacks:
        return Outcome(None, "not promised")
    with TemporaryDirectory() as folder:
        instance = SYSTEMS[system](Path(folder))
        try:
            return SCENARIOS[scenario](instance, QUICK if quick else FULL)
        finally:
            instance.close()


def run_in_subprocess(system: str, scenario: str, *, quick: bool) -> Outcome:
    """Run a scenario with a system in its own process; one that does not end has failed."""
    command = [sys.executable, "-m", "conformance", "--inside", system, scenario]
    # A careful host turns bytecode caches off; one scenario tests a host that leaves them on.
    cached = "" if scenario == "a_save_of_equal_length_takes_effect" else "1"
    try:
        done = subprocess.run(
            [*command, *(["--quick"] if quick else [])],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": cached},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(False, f"it did not end in {_LIMIT_S:.0f} s")
    try:
        return Outcome(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Outcome(False, f"it raised: {last}")
