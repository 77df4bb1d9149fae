"""Run the breakages: `make mutants`; `ARGS="E4"` for some of them, `ARGS=7` for one.

Each is made in a copy of the sources, and its test runs against that copy, `--jobs` of them at a
time. A breakage that its test does not notice is an error. `tests/mutants/mutant.py` describes how
a breakage names the code that it breaks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.documents import ATTACKS, write_table
from tests.mutants.catalogue import MUTANTS
from tests.mutants.places import broken_by, path_of
from tests.mutants.refresh import refresh

if TYPE_CHECKING:
    from tests.mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
_LIMIT_S = 300
_PYTEST = ("-m", "pytest", "-qx", "-pno:cacheprovider", "--timeout=20")


def main() -> int:
    """Run what was asked for; 0 if each breakage was caught."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.splitlines()[0])
    wanted_help = "such as E4, E4.shutdown-runs-once or 'flaw 3'; all by default"
    parser.add_argument("promises", nargs="*", help=wanted_help)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--table", action="store_true", help="write them into docs/attacks.md")
    parser.add_argument(
        "--refresh", action="store_true", help="write the shapes of the code as it is now"
    )
    options = parser.parse_args()
    if options.table:
        write_table(ATTACKS, "breakages", table())
        return 0
    wanted = options.promises
    chosen = {n: m for n, m in enumerate(MUTANTS, 1) if not wanted or is_wanted(n, m, wanted)}
    if not chosen:
        parser.error(f"no breakage of {', '.join(wanted)}")
    if options.refresh:
        for line in refresh(chosen):
            print(line)
        return 0
    return run(chosen, options.jobs)


def run(chosen: dict[int, Mutant], jobs: int) -> int:
    """Break what was chosen, so many at a time; 0 if each breakage was caught."""
    missed = 0
    with ThreadPoolExecutor(jobs) as pool:
        numbers = {pool.submit(is_caught, mutant): number for number, mutant in chosen.items()}
        try:
            for done in as_completed(numbers):
                number, caught = numbers[done], done.result()
                mutant = chosen[number]
                missed += not caught
                verdict = "caught" if caught else "MISSED"
                print(f"{verdict} {number:>4}  {mutant.id:<44} {mutant.broken}", flush=True)
                if not caught:
                    print(f"             by {mutant.test}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    print(f"{len(chosen) - missed} of {len(chosen)} breakages caught")
    return 1 if missed else 0


def table() -> str:
    """The breakages as they stand in docs/attacks.md."""
    rows = [
        f'| {m.id} | {m.broken} | `make mutants ARGS={m.id}` | `make test ARGS="{m.test}"` |'
        for m in MUTANTS
    ]
    head = "| breakage | what is broken | break it | the test that must fail |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def is_wanted(number: int, mutant: Mutant, wanted: list[str]) -> bool:
    """Whether the arguments ask for this breakage, by its id, its promise or its number."""
    promises = f"{mutant.promise}, {mutant.id.partition('.')[0]}".split(", ")
    return any(w in {str(number), mutant.id, *promises} or w in mutant.promise for w in wanted)


def is_caught(mutant: Mutant) -> bool:
    """Whether the test fails against the broken copy."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        broken = copy / path_of(mutant.module).relative_to(ROOT / "src")
        broken.write_text(broken_by(mutant))
        done = subprocess.run(
            [sys.executable, *_PYTEST, mutant.test],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(copy)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_S,
            check=False,
        )
    # A test failed; or the run was ended because it hung. Not: no such test, no such option.
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
