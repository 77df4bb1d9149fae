"""Run the conformance suite: `python -m conformance`, or `make conformance`."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.page import page
from conformance.run import apart, here
from conformance.scenarios import SCENARIOS
from conformance.systems import SYSTEMS

if TYPE_CHECKING:
    from conformance.system import Outcome

PAGE = Path(__file__).parents[1] / "docs/conformance.md"
_WORDS = {True: "passes", False: "FAILS", None: "n/a"}


def main() -> int:
    """Run what was asked for; 0 if Epochal passes all of it."""
    options = _options()
    if options.inside:
        print(json.dumps(asdict(here(*options.inside, quick=options.quick))))
        return 0
    results: dict[tuple[str, str], Outcome] = {}
    for scenario in options.scenario or SCENARIOS:
        print(scenario.replace("_", " "), flush=True)
        for system in options.system or SYSTEMS:
            outcome = results[system, scenario] = apart(system, scenario, quick=options.quick)
            name = SYSTEMS[system].name
            print(f"  {name:<22} {_WORDS[outcome.passed]:<7} {outcome.evidence}", flush=True)
    if options.page:
        day = datetime.datetime.now(datetime.UTC).date()
        PAGE.write_text(page(results, f"on {day}, with Python {platform.python_version()}"))
    ours = [outcome for (system, _), outcome in results.items() if system == "epochal"]
    return 0 if all(outcome.passed for outcome in ours) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance",
        description="See what happens to running work when code is swapped under it.",
    )
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="one of; all")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="one of; all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the swaps")
    parser.add_argument("--page", action="store_true", help="write docs/conformance.md")
    parser.add_argument("--inside", nargs=2, metavar=("SYSTEM", "SCENARIO"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.page and (options.system or options.scenario or options.quick):
        parser.error("--page needs all systems and scenarios, in full size")
    return options


if __name__ == "__main__":
    sys.exit(main())
