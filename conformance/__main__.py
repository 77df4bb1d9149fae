"""Run the conformance suite: `python -m conformance`, or `make conformance`."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from conformance.page import page
from conformance.run import run_here, run_in_subprocess
from conformance.scenarios import SCENARIOS
from conformance.system import Outcome
from conformance.systems import SYSTEMS, is_installed

RESULTS = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[1] / "docs/conformance.md"
_WORDS = {True: "passes", False: "FAILS", None: "n/a"}


def main() -> int:
    """Run the chosen scenarios; returns 0 if Epochal passes all of them, else 1."""
    options = _options()
    if options.inside:
        print(json.dumps(asdict(run_here(*options.inside, quick=options.quick))))
        return 0
    systems = options.system or list(SYSTEMS)
    for system in systems:
        if not is_installed(system):
            name = SYSTEMS[system].name
            print(f"{name} is not installed, and left out (see the group conformance)")
    systems = [system for system in systems if is_installed(system)]
    results: dict[tuple[str, str], Outcome] = {}
    for scenario in options.scenario or SCENARIOS:
        print(scenario.replace("_", " "), flush=True)
        for system in systems:
            outcome = run_in_subprocess(system, scenario, quick=options.quick)
            results[system, scenario] = outcome
            name = SYSTEMS[system].name
            print(f"  {name:<22} {_WORDS[outcome.passed]:<7} {outcome.evidence}", flush=True)
    if options.page:
        outcomes, ran = _store(results)
        if missing := sorted({SYSTEMS[s].name for s in SYSTEMS if s not in ran}):
            print(f"the page is not written: there are no results of {', '.join(missing)}")
        else:
            PAGE.write_text(page(outcomes, ran))
    ours = [outcome for (system, _), outcome in results.items() if system == "epochal"]
    return 0 if all(outcome.passed for outcome in ours) else 1


def _store(
    fresh: dict[tuple[str, str], Outcome],
) -> tuple[dict[tuple[str, str], Outcome], dict[str, str]]:
    """Merge fresh results into the file of all results; the others stay.

    Returns:
        All outcomes, and the date and Python version of each system's last run.
    """
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"ran": {}, "results": []}
    known = {
        (row["system"], row["scenario"]): Outcome(row["passed"], row["evidence"])
        for row in document["results"]
    }
    outcomes = known | fresh
    day = datetime.datetime.now(datetime.UTC).date()
    now = f"{day}, Python {platform.python_version()}"
    ran = document["ran"] | {system: now for system, _ in fresh}
    rows = [
        {"system": s, "scenario": n, **asdict(outcomes[s, n])}
        for n in SCENARIOS
        for s in SYSTEMS
        if (s, n) in outcomes
    ]
    RESULTS.write_text(json.dumps({"ran": ran, "results": rows}, indent=1) + "\n")
    return outcomes, ran


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance",
        description="Test the effects of a code swap on running work.",
    )
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="by default all")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="by default all")
    parser.add_argument("--quick", action="store_true", help="a fraction of the swaps")
    parser.add_argument("--page", action="store_true", help="write docs/conformance.md")
    parser.add_argument("--inside", nargs=2, metavar=("SYSTEM", "SCENARIO"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.page and options.quick:
        parser.error("--page needs the full size: leave --quick out")
    return options


if __name__ == "__main__":
    sys.exit(main())
