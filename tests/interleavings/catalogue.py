"""All programs, and the table of them in docs/guarantees.md."""

from __future__ import annotations

from tests.interleavings import changes, pieces

PROGRAMS = (*pieces.PROGRAMS, *changes.PROGRAMS)
TESTS = "tests/interleavings/test_interleavings.py"


def table() -> str:
    """The programs as they stand in docs/guarantees.md."""
    rows = [
        f"| {p.promise} | {p.ci} | {p.breakage} | `make test ARGS=\"{TESTS} -k '[{p.name}]'\"` |"
        for p in PROGRAMS
    ]
    return "\n".join(["| promise | schedules | breakage | run it |", "|---|---|---|---|", *rows])
