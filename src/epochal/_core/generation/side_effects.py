"""The side effects of a generation on the process's own tables, and how they are taken back.

The problem: plugin code registers things behind the runtime's back: a log handler, a warnings
filter, a replaced builtin. Each outlives the generation, keeps its memory, and piles up with every
reload.

The idea: look at those tables (`process_tables`) just before and just after the plugin's code runs
in a change (link, init, shutdown). An entry that appeared in between is the generation's, and goes
when the generation goes, newest first. An entry that was registered later, inside a call, is found
at the end by the code that it refers to.

An entry is undone only if it is still there as the plugin left it: if other code has replaced it,
the new entry is that code's. (Exit hooks cannot be listed; `loaders._exit_hooks` runs them.)

Honest limit: an entry that another thread of the host registers in the very milliseconds in which a
plugin is linked counts as the plugin's. Register process-wide things before you load plugins, or
after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation import process_tables
from epochal.errors import format_error

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from epochal._core.generation.watched_table import Entry, Owns, WatchedTable


class SideEffects:
    """The entries that one generation left in the process's tables.

    Used by the change's thread: `with side_effects.noting(): …` around plugin code. A thread that
    was abandoned in such a block may stay there for ever, or leave it while the change's new thread
    is in another block. So each block has its own look, and the next block makes the one before
    forget its look: that holds entries of other plugins, which would not be freed.
    """

    __slots__ = ("_block", "_entries")

    def __init__(self) -> None:
        self._entries: Final[list[Entry]] = []
        self._block: _ChangesNoted | None = None

    def noting(self) -> AbstractContextManager[None]:
        """Around a call into the plugin's code: note the entries that it makes."""
        if self._block is not None:
            self._block.before = None
        self._block = _ChangesNoted(self._entries)
        return self._block

    def undo(self, owns: Owns) -> tuple[list[str], list[str]]:
        """Take every entry out, newest first, then those that the plugin's code registered later.

        Args:
            owns: whether an object was defined by the generation's code.

        Returns:
            A line for each entry that was taken out, and one for each that raised.
        """
        cleaned_up: list[str] = []
        failures: list[str] = []
        while self._entries:
            # Out of the list before it is undone: an abandoned undo is not tried again.
            _undo(self._entries.pop(), cleaned_up, failures)
        for table in _tables().values():
            for entry in list(table.owned(table.now(), owns)):
                _undo(entry, cleaned_up, failures)
        return cleaned_up, failures


class _ChangesNoted:
    """One block of `SideEffects.noting`; `before` is its first look, None before and after it."""

    __slots__ = ("_entries", "before")

    def __init__(self, entries: list[Entry]) -> None:
        self._entries: Final = entries
        self.before: dict[Any, Any] | None = None

    def __enter__(self) -> None:
        self.before = {key: table.now() for key, table in _tables().items()}

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        before, self.before = self.before, None
        if before is None:  # this thread was abandoned here; see `SideEffects`
            return
        if kind is not None:
            # Before everything else: the machinery that undoes the rest may need the builtins.
            self._entries.extend(process_tables.restore_builtins(before))
        for key, table in _tables().items():
            self._entries.extend(table.changed(before.get(key, []), table.now()))


def _tables() -> dict[Any, WatchedTable]:
    """All tables to look at: the fixed ones, and those of the loggers that exist now."""
    return {table: table for table in process_tables.TABLES} | process_tables.logger_tables()


def _undo(entry: Entry, cleaned_up: list[str], failures: list[str]) -> None:
    try:
        if entry.undo():
            cleaned_up.append(entry.description)
    except BaseException as error:  # noqa: BLE001  the table's own code; the rest goes on
        failures.append(f"{entry.description} raised {format_error(error)}")
