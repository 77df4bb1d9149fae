"""One scenario with one system, in a process of its own."""

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


def here(system: str, scenario: str, *, quick: bool) -> Outcome:
    """Run it in this process."""
    if scenario in SYSTEMS[system].lacks:
        return Outcome(None, "it makes no such promise")
    with TemporaryDirectory() as folder:
        made = SYSTEMS[system](Path(folder))
        try:
            return SCENARIOS[scenario](made, QUICK if quick else FULL)
        finally:
            made.close()


def apart(system: str, scenario: str, *, quick: bool) -> Outcome:
    """Run it in a process of its own; one that does not end has failed."""
    command = [sys.executable, "-m", "conformance", "--inside", system, scenario]
    # A careful host turns bytecode caches off; one scenario asks what becomes of one that does not.
    cached = "" if scenario == "a_save_of_equal_length_within_a_second_counts" else "1"
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
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return Outcome(False, f"it raised: {last}")
