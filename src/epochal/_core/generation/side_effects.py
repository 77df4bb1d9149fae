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

Imports of other modules
------------------------

A plugin may be the first to import a library. The library stays in `sys.modules` when the plugin
goes, and never registers again what it registered as it was imported. So the rule: an entry that
appears *while a module is imported that is not a plugin's* is that module's, and stays with it,
unless the plugin's code defined it. What a library's function registers after that, called by the
plugin, is the plugin's.

The import system reports each such import (`loaders._import_notes`), of any thread, by statement or
by string: `import_begins`, `import_ends`. The changes between the two are added to the first look
of every block, as if they had come before it.

Which thread reads, which writes: a block, its look and its list of imports belong to its thread;
an import in any thread appends to that list. The importing thread appends *before* it leaves
``_imports``, and a block looks at the tables *before* it reads ``_imports`` and then its list. So
an import that ends meanwhile is in one of the two; swap either pair, and it may be in neither.

Honest limits: an entry that another thread of the host registers in the very milliseconds in which
a plugin is linked counts as the plugin's, unless that thread is importing. And one that the plugin
registers while another thread imports a library for the first time counts as the library's, unless
the plugin's code defined it. Register process-wide things before you load plugins, or after.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from epochal._core.generation import process_tables
from epochal._core.generation.host_names import HostNames
from epochal._core.sync.threads import give_way
from epochal.errors import format_error

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import ModuleType

    from epochal._core.generation.table_succession import TableSuccession
    from epochal._core.generation.watched_table import Entry, Item, Owns, Put, WatchedTable

Look: TypeAlias = "dict[Any, Any]"
"""A copy of the entries of every table, by table."""

_Imported: TypeAlias = "dict[tuple[int, int], tuple[ModuleType, frozenset[str]]]"
"""The modules of the host that a plugin's code has imported, each with the names in that code."""


class SideEffects:
    """The entries that one generation left in the process's tables.

    Used by the change's thread: `with side_effects.noting(owns): …` around plugin code. A thread
    that was abandoned in such a block may stay there for ever, or leave it while the change's new
    thread is in another block. So each block has its own look, and the next block makes the one
    before forget its look: that holds entries of other plugins, which would not be freed.
    """

    __slots__ = ("_block", "_entries", "_imported", "succession")

    def __init__(self) -> None:
        self._entries: Final[list[Entry]] = []
        self._imported: Final[_Imported] = {}
        self.succession: TableSuccession | None = None
        self._block: _ChangesNoted | None = None

    def noting(self, owns: Owns) -> AbstractContextManager[None]:
        """Around a call into the plugin's code: note the entries that it makes.

        Args:
            owns: whether an object was defined by the generation's code.
        """
        if self._block is not None:
            self._block.forget()
        self._block = _ChangesNoted(self._entries, self._imported, owns, self.succession)
        return self._block

    def puts(self) -> list[Put]:
        """The values that it has put under names."""
        return [entry.put for entry in self._entries if entry.put is not None]

    def items(self) -> list[Item]:
        """The items that it has put into lists and that are its to take out."""
        return [e.item for e in self._entries if e.item is not None and e.item.is_in]

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
            give_way()
            for entry in list(table.owned(table.now(), owns)):
                _undo(entry, cleaned_up, failures)
        self._imported.clear()
        return cleaned_up, failures


class _ChangesNoted:
    """One block of `SideEffects.noting`.

    Attributes:
        thread: the ident of the thread that is in the block.
        before: its first look, None before and after it.
        imports: two looks around each import of a foreign module that has ended since.
    """

    __slots__ = (
        "_entries",
        "_host",
        "_imported",
        "_owns",
        "_succession",
        "before",
        "imports",
        "thread",
    )

    def __init__(
        self,
        entries: list[Entry],
        imported: _Imported,
        owns: Owns,
        succession: TableSuccession | None,
    ) -> None:
        self._entries: Final = entries
        self._imported: Final = imported
        self._host: HostNames | None = None
        self._owns: Owns | None = owns
        self._succession = succession
        self.thread = 0
        self.before: Look | None = None
        self.imports: Final[list[tuple[Look, Look]]] = []

    def forget(self) -> None:
        """Let go of the look: this block's thread was abandoned in it, if it has not left."""
        _blocks.pop(id(self), None)
        if self.before is not None:
            self.before = None
            abandoned = _imports.get(self.thread)
            if abandoned is not None:
                abandoned.before = {}
        self.imports.clear()
        succession, self._succession = self._succession, None
        if succession is not None:
            succession.end(self.thread)
        self._host = None
        self._owns = None  # it leads to the plugin's code

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        _blocks[id(self)] = self
        self._host = HostNames(process_tables.is_watched)
        for module, names in self._imported.values():
            self._host.reach(module, names)
        self.before = _look()
        if self._succession is not None:
            self._succession.show()

    def reach(self, module: ModuleType, names: frozenset[str]) -> None:
        """Look at what the plugin's code, which uses these names, can reach from a module."""
        if self._host is not None:
            self._imported[id(module), id(names)] = module, names
            self._host.reach(module, names)

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        before, self.before = self.before, None
        if before is None:  # this thread was abandoned here; see `SideEffects`
            return
        try:
            if kind is not None:
                # Before everything else: the machinery that undoes the rest may need the builtins.
                builtins_changed = [
                    (was[process_tables.BUILTINS], now[process_tables.BUILTINS])
                    for was, now in self.imports
                    if process_tables.BUILTINS in was
                ]
                self._entries.extend(process_tables.restore_builtins(before, builtins_changed))
            self._note(before)
        finally:
            self.forget()

    def _note(self, before: Look) -> None:
        assert self._owns is not None
        succession, self._succession = self._succession, None
        if succession is not None:
            self._entries.extend(succession.end(self.thread))
        tables = _tables()
        after = {key: table.now() for key, table in tables.items()}
        running = [(each.before, after) for each in _imports.copy().values()]
        for was, now in (*self.imports, *running):
            for key, entries in now.items():
                table = tables.get(key)
                if table is not None:
                    known = was.get(key) or type(entries)()
                    table.carry_over(known, entries, before.setdefault(key, []), self._owns)
        for key, table in tables.items():
            self._entries.extend(table.changed(before.get(key, []), after[key]))
        if self._host is not None:
            self._entries.extend(self._host.changed(self._owns))


class _Import:
    """The outermost import of a foreign module in one thread.

    Attributes:
        before: the look before it; empty in a thread that is in no block, which need not hold one:
            all that changed since a block began counts as changed by the import.
        depth: how many imports are within one another.
    """

    __slots__ = ("before", "depth")

    def __init__(self) -> None:
        self.before: Look = {}
        self.depth = 0


_blocks: Final[dict[int, _ChangesNoted]] = {}
"""The blocks that are open in the process, by `id`; each access is one step of the dictionary."""

_imports: Final[dict[int, _Import]] = {}
"""The outermost imports of foreign modules that are under way, by thread; written by each thread
for itself."""


def import_begins() -> None:
    """This thread begins to run the code of a module that is not a plugin's."""
    thread = threading.get_ident()
    outermost = _imports.get(thread)
    if outermost is None:
        outermost = _Import()
        if any(block.thread == thread for block in list(_blocks.values())):
            outermost.before = _look()
        _imports[thread] = outermost
    outermost.depth += 1


def import_ends() -> None:
    """This thread has run it, or it raised: what the code registered stays all the same."""
    thread = threading.get_ident()
    outermost = _imports.get(thread)
    if outermost is None:
        return
    outermost.depth -= 1
    if outermost.depth == 0:
        _publish(outermost)
        _imports.pop(thread, None)


def is_noting() -> bool:
    """Whether a block is open in the process."""
    return bool(_blocks)


def plugin_imports(module: ModuleType, names: frozenset[str]) -> None:
    """A plugin's code has imported a module of the host, in this thread.

    Args:
        module: the module.
        names: the names in the code (`host_names.names_of`), the same object for the same code.
    """
    thread = threading.get_ident()
    for block in list(_blocks.values()):
        if block.thread == thread:
            block.reach(module, names)


def own_code_begins() -> int:
    """This thread begins to run a plugin's module, perhaps within a foreign module's import.

    Returns:
        What to hand to `own_code_ends`.
    """
    outermost = _imports.get(threading.get_ident())
    if outermost is None:
        return 0
    _publish(outermost)
    del _imports[threading.get_ident()]
    return outermost.depth


def own_code_ends(depth: int) -> None:
    """The plugin's module has run, or raised: the foreign module's import goes on, if any."""
    if depth:
        import_begins()
        _imports[threading.get_ident()].depth = depth


def _publish(ended: _Import) -> None:
    """Add an import to each open block's list."""
    blocks = list(_blocks.values())
    if blocks:
        looks = (ended.before, _look())
        for block in blocks:
            block.imports.append(looks)


def _look() -> Look:
    return {key: table.now() for key, table in _tables().items()}


def _tables() -> dict[Any, WatchedTable]:
    """All tables to look at: the fixed ones, and those of the loggers that exist now."""
    return {table: table for table in process_tables.TABLES} | process_tables.logger_tables()


def _undo(entry: Entry, cleaned_up: list[str], failures: list[str]) -> None:
    try:
        if entry.undo():
            cleaned_up.append(entry.description)
    except BaseException as error:  # noqa: BLE001  the table's own code; the rest goes on
        failures.append(f"{entry.description} raised {format_error(error)}")
