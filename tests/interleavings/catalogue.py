"""All programs, and the table of them in docs/attacks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.interleavings import (
    changes,
    draining,
    gating,
    holding,
    looking,
    managing,
    pieces,
    streaming,
)

if TYPE_CHECKING:
    from tests.interleavings.exploring import Program

PROGRAMS = (
    *draining.PROGRAMS,
    *pieces.PROGRAMS,
    *changes.PROGRAMS,
    *gating.PROGRAMS,
    *streaming.PROGRAMS,
    *managing.PROGRAMS,
    *holding.PROGRAMS,
    *looking.PROGRAMS,
)
TESTS = "tests/interleavings/test_interleavings.py"


def table() -> str:
    """The Markdown table of the programs that stands in docs/attacks.md."""
    rows = [
        f"| {program.promise} | {_schedules(program)} | {program.breakage} "
        f"| `make test-long ARGS=\"{TESTS} -k '[{program.name}]'\"` |"
        for program in PROGRAMS
    ]
    return "\n".join(["| promise | schedules | breakage | run it |", "|---|---|---|---|", *rows])


def _schedules(program: Program) -> str:
    further = "" if program.orderings is None else "; every ordering by partial order reduction"
    return f"{program.ci}{further}"
