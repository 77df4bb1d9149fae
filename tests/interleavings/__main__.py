"""Explore programs by hand: `python -m tests.interleavings [--broken] [names]`, or `--table`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.documents import ATTACKS, write_table
from tests.interleavings.catalogue import PROGRAMS, table
from tests.interleavings.exploring import explore


def main() -> int:
    """Explore the chosen programs.

    Returns:
        0 if every promise held or, with `--broken`, every breakage was caught; otherwise 1.
    """
    parser = argparse.ArgumentParser(prog="interleavings", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names, such as drain; all by default")
    parser.add_argument("--broken", action="store_true", help="with the guarantee taken out")
    parser.add_argument(
        "--table", action="store_true", help="write the table of programs into docs/attacks.md"
    )
    options = parser.parse_args()
    if options.table:
        write_table(ATTACKS, "interleavings", table())
        return 0
    wanted = options.names
    chosen = [p for p in PROGRAMS if not wanted or any(part in p.name for part in wanted)]
    wrong = 0
    for program in chosen:
        started = time.perf_counter()
        explored = explore(program, broken=options.broken)
        wrong += (explored.failure is None) is options.broken
        duration_s = time.perf_counter() - started
        counted = f"{explored.schedules} schedules of up to {explored.steps} steps"
        print(f"{program.name}: {counted}, {duration_s:.1f} s", flush=True)
        if explored.failure is not None:
            print(f"    {explored.failure}", flush=True)
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
