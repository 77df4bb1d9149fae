"""Finds the functions of an epoch by their SQL names.

A `Function` is made of an export when the first query of the epoch names it, and then kept. It has
types and names only: no plugin code, no lease, and no reference to the epoch. Therefore the index
can be stored in the epoch itself (`Epoch.derived`).
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, cast

from epochal.errors import QueryError
from epochal.kinds import (
    aggregate,
    index,
    mergeable_state,
    scalar,
    table_function,
    window,
)
from epochal.kinds.mergeable_state import MERGE_SUFFIX, STATE_SUFFIX
from epochal.sql.aggregates import AggregateFunction, MergeFunction, StateFunction
from epochal.sql.scalars import ScalarFunction
from epochal.sql.table_functions import IndexSearch, TableProducer
from epochal.sql.types import sql_signatures
from epochal.sql.windows import WindowFunction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from epochal import Epoch, Kind
    from epochal.sql.function import Function
    from epochal.sql.sql_scan import Call

SQL_KINDS: Final = cast(
    "tuple[Kind[Any], ...]", (scalar, aggregate, window, table_function, index, mergeable_state)
)
"""The kinds that SQL calls."""

_SUFFIXES: Final = {mergeable_state.name: ("", STATE_SUFFIX, MERGE_SUFFIX)}
"""The suffixes of an export's names in SQL, by kind."""

_KEY: Final = "epochal.sql.function_registry"


class FunctionIndex:
    """Every name that SQL can call in one epoch.

    Attributes:
        names: full name -> the kinds under which it is exported, usually one.
        plugins: the ids of the epoch's plugins.
    """

    __slots__ = ("_folded", "_functions", "names", "plugins")

    # Any thread fills ``_functions``, by `dict.setdefault`: of two threads that make the same
    # function, both get the first one. The other attributes never change.

    def __init__(self, epoch: Epoch) -> None:
        self.plugins: Final = tuple(sorted(epoch.generations))
        self.names: Final[dict[str, tuple[Kind[Any], ...]]] = {}
        for kind in SQL_KINDS:
            for exported in epoch[kind]:
                for suffix in _SUFFIXES.get(kind.name, ("",)):
                    name = exported + suffix
                    self.names[name] = (*self.names.get(name, ()), kind)
        self._folded: Final = {name.lower(): name for name in self.names}
        self._functions: Final[dict[tuple[Kind[Any], str], Function]] = {}

    def resolve(self, call: Call) -> str | None:
        """The full name for a call: as written, else ignoring case; None for an unknown name."""
        return call.name if call.name in self.names else self._folded.get(call.folded.lower())

    def functions(self, name: str, epoch: Epoch) -> Iterator[Function]:
        """The functions of a full name.

        Raises:
            QueryError: the name belongs to a function and to a mergeable state.
        """
        kinds = self.names[name]
        if len(kinds) > 1 and (state := _mergeable_state_of(epoch, name)):
            raise QueryError(
                f"{name} is a function, and a part of the mergeable state {state}: "
                "one of the two needs another name"
            )
        for kind in kinds:
            key = (kind, name)
            function = self._functions.get(key)
            if function is None:
                function = self._functions.setdefault(key, _make(epoch, kind, name))
            yield function

    def advice(self, name: str) -> str:
        """A hint for a call of a function that does not exist; may be empty."""
        plugin, _, short = name.rpartition(".")
        if plugin and plugin not in self.plugins:
            loaded = ", ".join(self.plugins) or "none"
            return f"plugin {plugin!r} is not loaded; loaded: {loaded}"
        same = [other for other in self.names if other.rpartition(".")[2] == short]
        own = [other for other in self.names if plugin and other.startswith(f"{plugin}.")]
        close = get_close_matches(name, self.names, n=3, cutoff=0.75)
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


def _make(epoch: Epoch, kind: Kind[Any], name: str) -> Function:
    if kind is mergeable_state:
        return _make_mergeable(epoch, name)
    export = epoch.export(kind, name)
    generation = epoch.generation(export.plugin)
    if kind is scalar:
        return ScalarFunction(export, generation, scalar.signature(export))
    if kind is aggregate:
        return AggregateFunction(export, generation, aggregate.shape(export))
    if kind is window:
        return WindowFunction(export, generation, window.signature(export))
    if kind is index:
        return IndexSearch(export, generation, index.shape(export))
    return TableProducer(export, generation, table_function.shape(export))


def _make_mergeable(epoch: Epoch, name: str) -> Function:
    state = _mergeable_state_of(epoch, name)
    export = epoch.export(mergeable_state, state or name)
    make = _MERGEABLE[name.removeprefix(state)] if state else AggregateFunction
    return make(export, epoch.generation(export.plugin), mergeable_state.shape(export))


_MERGEABLE: Final[dict[str, type[AggregateFunction]]] = {
    STATE_SUFFIX: StateFunction,
    MERGE_SUFFIX: MergeFunction,
}


def _mergeable_state_of(epoch: Epoch, name: str) -> str:
    """The mergeable state whose name, with a suffix, is this one; empty for none."""
    bases = (name.removesuffix(suffix) for suffix in _MERGEABLE if name.endswith(suffix))
    return next((base for base in bases if base in epoch[mergeable_state]), "")
