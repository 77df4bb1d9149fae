"""`python -m tests.realcode`: load real distributions as plugins, and write docs/real-code.md."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.realcode.catalogue import CASES
from tests.realcode.reload_use import HEADING, PAGE
from tests.realcode.run import CALLERS, RELOADS, Outcome, carry_out

_HEAD = """\
# Real code

Distributions from PyPI, each as a plugin that carries it (`vendored = "_vendor"` in its manifest):
loaded, called by {callers} threads through epochs that they capture, and reloaded {reloads} times
meanwhile. `python -m tests.realcode` wrote this page on {date}, with Python {python}, in
{seconds:.0f} s; `tests/realcode` runs the same in the test suite, and fails if a call fails or a
generation is not reclaimed.

| distribution | version | files | KiB | modules loaded | ms a reload | calls | failed | reclaimed |
|---|---|---:|---:|---:|---:|---:|---:|---|
"""

_TAIL = """
**calls** counts the calls that returned while the reloads were under way, each with exactly the
expected result. **ms a reload** is the median, beside the callers: a reload reads and hashes every
file, compiles and runs every module, drains, and takes the old generation's memory apart.
**reclaimed** counts the old generations that their cutover reports as reclaimed, if no function or
class of theirs was alive after a collection.

A plugin carries Python alone. The compiled accelerator of `markupsafe` was left out, and its own
fallback is used: compiled modules cannot be unloaded, and a plugin that holds one is refused by
name.

## Libraries that a plugin imports first

A library registers things with the process as it is imported: reducers of `copyreg`, import
finders, modules made by hand, warnings filters, handlers. It does so once. `make libraries` has a
plugin be the first to import each of 86 libraries, in processes of their own; the plugin is
reloaded and removed, refused at first, or refused between two reloads. Then the process's tables
must be those of a process that imported the library plainly. All 86 keep everything.
"""


def main() -> int:
    """Run all or some; 0 if no call failed and every generation was reclaimed."""
    parser = argparse.ArgumentParser(prog="tests.realcode", description=__doc__)
    parser.add_argument("names", nargs="*", help="distributions; all, and the page, by default")
    names = parser.parse_args().names
    started = time.perf_counter()
    lines: list[str] = []
    good = True
    for case in CASES:
        if names and case.distribution not in names:
            continue
        with TemporaryDirectory() as folder:
            outcome = carry_out(case, Path(folder))
        lines.append(row(outcome))
        print(lines[-1], flush=True)
        good &= outcome.is_fully_reclaimed and not outcome.faults
    if not names:
        head = _HEAD.format(
            callers=CALLERS,
            reloads=RELOADS,
            date=datetime.now(UTC).date(),
            python=platform.python_version(),
            seconds=time.perf_counter() - started,
        )
        _, heading, libraries = PAGE.read_text().partition(HEADING)  # `reload_use` writes that
        first = "\n".join([head.rstrip(), *lines, ""]) + _TAIL
        PAGE.write_text(f"{first}\n{heading}{libraries}" if heading else first)
    return 0 if good else 1


def row(outcome: Outcome) -> str:
    """A line of the table."""
    reclaimed = f"{outcome.reclaimed} of {outcome.reloads}"
    if outcome.leaks or outcome.survivors:
        reclaimed += f"; kept by: {'; '.join(sorted(outcome.leaks)) or 'unknown'}"
    cells = (
        outcome.distribution,
        outcome.version,
        f"{outcome.files:,}",
        f"{outcome.kib:,}",
        outcome.modules,
        f"{outcome.median_ms:,.0f}",
        f"{outcome.calls:,}",
        len(outcome.faults),
        reclaimed,
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
