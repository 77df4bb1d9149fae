"""Measure the figures of docs/performance.md: `make bench`, or `make bench ARGS="calls drains"`.

Each group runs in a process of its own, one after another. Results go to `benchmarks/results/`, one
file for each Python version; groups that were not asked for keep their last results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

GROUPS = ("calls", "drains", "reloads", "memory", "kinds", "sql", "store", "service")
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the groups that are asked for; 0 if every goal is reached."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", help=f"of: {', '.join(GROUPS)}; all by default")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    groups = options.groups or list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        parser.error(f"no group {unknown[0]!r}; there are: {', '.join(GROUPS)}")
    if options.inside:
        print(json.dumps(_measure(groups[0])))
        return 0
    found = {group: _in_a_process(group) for group in groups}
    _keep(found)
    figures = [figure for group in found.values() for figure in group]
    return 1 if any(figure["reached"] is False for figure in figures) else 0


def _measure(group: str) -> list[dict[str, object]]:
    return [figure.as_dict() for figure in importlib.import_module(f"benchmarks.{group}").measure()]


def _in_a_process(group: str) -> list[dict[str, object]]:
    print(f"{group}:", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", group, "--inside"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    for figure in figures:
        print(f"  {_line(figure)}", flush=True)
    return figures


def _line(figure: dict[str, object]) -> str:
    goal, unit = figure["goal"], figure["unit"]
    said = ""
    if goal is not None:
        side = "at least" if figure["higher"] else "at most"
        said = f"{side} {goal:g} {unit}: {'reached' if figure['reached'] else 'MISSED'}"
    return f"{figure['name']:<52} {figure['value']:>9.3f} {unit:<4} {said}"


def _keep(found: dict[str, list[dict[str, object]]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    version = platform.python_version()
    path = RESULTS / f"python-{'.'.join(version.split('.')[:2])}.json"
    known = json.loads(path.read_text())["groups"] if path.exists() else {}
    record = {
        "command": "make bench",
        "python": version,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "groups": {group: (known | found)[group] for group in GROUPS if group in known | found},
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
