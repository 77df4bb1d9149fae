"""Soak the runtime: `make soak`, or `python -m tests.soak --help`."""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from time import monotonic

from tests.soak.run import MODES, Goal, Soak

ROOT = Path(__file__).parents[2]
_PYTEST = (sys.executable, "-m", "pytest", "-q", "tests/property/test_model.py")


def main():
    """Run the requested modes one after another; returns 0 if every count is zero, else 1."""
    options = _options()
    print(f"seed {options.seed}", flush=True)
    modes = (*MODES, "model") if options.mode == "all" else (options.mode,)
    minutes = options.minutes / len(modes)
    results = []
    failed = False
    for mode in modes:
        if mode == "model":
            failed |= _model(options.seed, minutes) != 0
            continue
        goal = Goal(int(options.operations), int(options.reloads), minutes * 60.0)
        findings = Soak(mode, options.seed, goal, report=_report).run()
        print(findings, flush=True)
        failed |= bool(findings.wrong)
        results.append(findings.as_dict())
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 1 if failed else 0


def _options():
    parser = argparse.ArgumentParser(
        prog="soak",
        description="Operate a runtime under changes for a long time and count what must be zero.",
        epilog="Each mode ends when its share of the minutes has passed and it has done enough "
        "operations and reloads. The same seed draws the same operations and changes; the "
        "scheduling of threads is not repeated.",
    )
    parser.add_argument(
        "--mode",
        choices=("all", *MODES, "model"),
        default="all",
        help="where operations run; `model` compares the runtime with its model (tests/property)",
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of all modes together (60)")
    parser.add_argument(
        "--operations", type=float, default=1e8, help="at least, for each mode (1e8)"
    )
    parser.add_argument("--reloads", type=float, default=1e4, help="at least, for each mode (1e4)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="(random)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    return parser.parse_args()


def _report(line):
    print(f"  {line}", file=sys.stderr, flush=True)


def _model(seed, minutes):
    """Run the model's test with one seed after another until the time has passed or it fails."""
    end = monotonic() + minutes * 60.0
    environment = {**os.environ, "EPOCHAL_SIZE": "whole"}
    while True:
        print(f"model (seed {seed})", flush=True)
        command = [*_PYTEST, f"--hypothesis-seed={seed}"]
        if code := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            return code
        if monotonic() >= end:
            return 0
        seed += 1


if __name__ == "__main__":
    sys.exit(main())
