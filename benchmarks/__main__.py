"""Measure the figures of docs/performance.md: `make bench`, or `make bench ARGS="calls drains"`.

Groups run one after another, each in its own process. Results go to `benchmarks/results/`, one file
for each Python version; the other groups keep their last results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.figure import QUICK, Figure

GROUPS = (
    "hotpath",
    "calls",
    "swaps",
    "drains",
    "reloads",
    "growth",
    "memory",
    "restarts",
    "kinds",
    "sql",
    "store",
    "starts",
    "service",
    "wasm",
    "mcp",
)
PROCESSES = {"hotpath": 3, "calls": 3}
"""Groups that run in several processes: a process's memory layout moves figures by nanoseconds."""
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the requested groups; returns 0 if every goal is reached, else 1."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", help=f"some of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    groups = options.groups or list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        parser.error(f"unknown group {unknown[0]!r}; the groups are {', '.join(GROUPS)}")
    if options.inside:
        print(json.dumps(_measure(groups[0])))
        return 0
    results = {group: _pooled(group) for group in groups}
    if not QUICK:
        _store(results)
        report.write()
    figures = [figure for group in results.values() for figure in group]
    return 1 if any(figure["reached"] is False for figure in figures) else 0


def _measure(group: str) -> list[dict[str, object]]:
    return [figure.as_dict() for figure in importlib.import_module(f"benchmarks.{group}").measure()]


def _pooled(group: str) -> list[dict[str, object]]:
    print(f"{group}:", flush=True)
    runs = [_in_a_process(group) for _ in range(1 if QUICK else PROCESSES.get(group, 1))]
    figures = [_together(same) for same in zip(*runs, strict=True)]
    for figure in figures:
        print(f"  {_line(figure)}", flush=True)
    return figures


def _together(same: tuple[dict[str, Any], ...]) -> dict[str, object]:
    """One figure of several processes: the median of medians, and the widest spread."""
    first = same[0]
    if len(same) == 1:
        return first
    spread = (min(f["spread"][0] for f in same), max(f["spread"][1] for f in same))
    value = statistics.median(figure["value"] for figure in same)
    return Figure(
        first["name"], value, first["unit"], first["goal"], spread, first["higher"]
    ).as_dict()


def _in_a_process(group: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", group, "--inside"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _line(figure: dict[str, Any]) -> str:
    goal, unit = figure["goal"], figure["unit"]
    text = ""
    if goal is not None:
        side = "at least" if figure["higher"] else "at most"
        verdict = {True: ": reached", False: ": MISSED", None: ""}[figure["reached"]]
        text = f"{side} {goal:g} {unit}{verdict}"
    return f"{figure['name']:<52} {figure['value']:>9.3f} {unit:<4} {text}"


def _store(results: dict[str, list[dict[str, object]]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    version = platform.python_version()
    path = RESULTS / f"python-{'.'.join(version.split('.')[:2])}.json"
    before = json.loads(path.read_text()) if path.exists() else {"groups": {}, "runs": {}}
    groups = before["groups"] | results
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    run = f"{_machine()}, {at}, commit {_commit()}"
    runs = before["runs"] | dict.fromkeys(results, run)
    record = {
        "command": "make bench",
        "python": version,
        "runs": {group: runs[group] for group in GROUPS if group in groups},
        "groups": {group: groups[group] for group in GROUPS if group in groups},
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    values = {
        group: {figure["name"]: figure["value"] for figure in figures}
        for group, figures in results.items()
    }
    line = {"at": at, "commit": _commit(), "python": version, "groups": values}
    with (RESULTS / "history.jsonl").open("a") as history:
        history.write(json.dumps(line) + "\n")


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    """The operating system, the number and model of the processors, and the memory."""
    model, memory = platform.processor() or platform.machine(), 0.0
    with suppress(OSError):
        match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = match[1] if match else model
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.system()}, {os.cpu_count()} x {model}, {memory:.0f} GiB"


if __name__ == "__main__":
    sys.exit(main())
