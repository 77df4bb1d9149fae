"""Tables in `docs/` that are generated: written by a command, compared by a test."""

from __future__ import annotations

from pathlib import Path

ATTACKS = Path(__file__).parents[1] / "docs/attacks.md"


def table_in(document: Path, name: str) -> str:
    """The table that stands in a document between its two markers."""
    _, table, _ = _split(document, name)
    return table


def write_table(document: Path, name: str, table: str) -> None:
    """Put a table between its markers."""
    before, _, after = _split(document, name)
    document.write_text(f"{before}{table}{after}")


def _split(document: Path, name: str) -> tuple[str, str, str]:
    before, begin, rest = document.read_text().partition(f"<!-- table: {name} -->\n")
    table, end, after = rest.partition(f"\n<!-- end: {name} -->")
    if not end:
        raise ValueError(f"{document} has no markers for the table {name!r}")
    return before + begin, table, end + after
