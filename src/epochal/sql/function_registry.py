"""Finds the functions of an epoch by their SQL names.

A `Function` is made of an export when the first query of the epoch names it, and then kept. It has
types and names only: no plugin code, no lease, and no reference to the epoch. Therefore the index
can be stored in the epoch itself (`Epoch.derived`).
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal.errors import QueryError
from epochal.kinds import aggregate, index, mergeable_state, scalar, table_function, window
from epochal.sql.aggregates import (
    AggregateFunction,
    MergeFunction,
    PartFunction,
    StateFunction,
    WholeFunction,
)
from epochal.sql.scalars import ScalarFunction
from epochal.sql.table_functions import IndexSearch, TableProducer
from epochal.sql.types import sql_signatures
from epochal.sql.windows import WindowFunction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from epochal import Epoch, Kind
    from epochal.sql.function import Function
    from epochal.sql.sql_scan import Call

_CLASSES: Final[Mapping[Kind[Any], tuple[type[Function], ...]]] = {
    scalar: (ScalarFunction,),
    aggregate: (AggregateFunction, PartFunction, WholeFunction),
    window: (WindowFunction,),
    table_function: (TableProducer,),
    index: (IndexSearch,),
    mergeable_state: (
        *(AggregateFunction, PartFunction, WholeFunction),
        *(StateFunction, MergeFunction),
    ),
}
"""The functions that SQL has of one export, by the export's kind."""

SQL_KINDS: Final = tuple(_CLASSES)
"""The kinds that SQL calls."""

_KEY: Final = "epochal.sql.function_registry"


class _Source(NamedTuple):
    """The origin of one function: an export, and the class that makes a function of it."""

    kind: Kind[Any]
    export: str
    make: type[Function]


class FunctionIndex:
    """Every name that SQL can call in one epoch.

    Attributes:
        names: full name -> the origins of its functions, usually one.
        plugins: the ids of the epoch's plugins.
    """

    __slots__ = ("_folded", "_functions", "names", "plugins")

    # Any thread fills ``_functions``, by `dict.setdefault`: of two threads that make the same
    # function, both get the first one. The other attributes never change.

    def __init__(self, epoch: Epoch) -> None:
        self.plugins: Final = tuple(sorted(epoch.generations))
        self.names: Final[dict[str, tuple[_Source, ...]]] = {}
        for kind, classes in _CLASSES.items():
            for export in epoch[kind]:
                for make in classes:
                    name = export + make.suffix
                    source = _Source(kind, export, make)
                    self.names[name] = (*self.names.get(name, ()), source)
        self._folded: Final = {name.lower(): name for name in self.names}
        self._functions: Final[dict[_Source, Function]] = {}

    def resolve(self, call: Call) -> str | None:
        """The full name for a call: as written, else ignoring case; None for an unknown name."""
        return call.name if call.name in self.names else self._folded.get(call.folded.lower())

    def functions(self, name: str, epoch: Epoch) -> Iterator[Function]:
        """The functions of a full name.

        Raises:
            QueryError: the name belongs to a function and to a mergeable state.
        """
        sources = self.names[name]
        states = [source.export for source in sources if source.make.suffix]
        if states and len(sources) > 1:
            raise QueryError(
                f"{name} is a function, and a part of the mergeable state {states[0]}: "
                "one of the two needs another name"
            )
        for source in sources:
            function = self._functions.get(source)
            if function is None:
                export = epoch.export(source.kind, source.export)
                function = source.make(export, epoch.generation(export.plugin))
                function = self._functions.setdefault(source, function)
            yield function

    def advice(self, name: str) -> str:
        """A hint for a call of a function that does not exist; may be empty."""
        plugin, _, short = name.rpartition(".")
        if plugin and plugin not in self.plugins:
            loaded = ", ".join(self.plugins) or "none"
            return f"plugin {plugin!r} is not loaded; loaded: {loaded}"
        names = [other for other in self.names if "$" not in other]  # those that users write
        same = [other for other in names if other.rpartition(".")[2] == short]
        own = [other for other in names if plugin and other.startswith(f"{plugin}.")]
        close = get_close_matches(name, names, n=3, cutoff=0.75)
        suggestions = list(dict.fromkeys([*same, *close])) or own
        return f"did you mean {' or '.join(suggestions[:3])}?" if suggestions else ""


def index_of(epoch: Epoch) -> FunctionIndex:
    """The index of an epoch, made once."""
    return epoch.derived(_KEY, FunctionIndex)


def signatures(epoch: Epoch) -> list[str]:
    """The SQL signatures of an epoch's functions, sorted."""
    return sorted(
        signature
        for kind in SQL_KINDS
        for name in epoch[kind]
        for signature in sql_signatures(epoch.export(kind, name))
    )
