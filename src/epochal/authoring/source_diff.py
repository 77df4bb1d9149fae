"""The difference between the files of two versions of a plugin, for people."""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Files = Mapping[str, bytes]

MOST_LINES: Final = 5_000
"""Of one file: comparing takes quadratic time at worst."""


def diff(old: Files, new: Files) -> str:
    """A unified diff of all files; a file that is no text, or is long, is only named."""
    names = sorted(old.keys() | new.keys())
    return "".join(line for name in names for line in _lines(name, old, new))


def _lines(name: str, old: Files, new: Files) -> Iterator[str]:
    before, after = old.get(name, b""), new.get(name, b"")
    if before == after:
        return
    try:
        earlier, later = (part.decode().splitlines(keepends=True) for part in (before, after))
        is_short = max(len(earlier), len(later)) <= MOST_LINES
    except UnicodeDecodeError:
        earlier = later = []
        is_short = False
    if not is_short:
        yield f"{name} differs: {len(before):,} bytes -> {len(after):,} bytes\n"
        return
    for line in unified_diff(earlier, later, f"{name} (old)", f"{name} (new)"):
        yield line if line.endswith("\n") else f"{line}\n"
