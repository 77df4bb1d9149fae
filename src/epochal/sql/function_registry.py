"""The functions of an epoch, as SQL finds them by name.

An epoch's exports are turned into what the engine needs (types, adapters) at most once for each
epoch, and only those that some query names. What is kept here is types and names: no plugin code,
no lease, and nothing that refers to the epoch, so it may live in the epoch itself
(`Epoch.derived`).
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
from epochal.sql.table_functions import IndexSearch, TableMaker
from epochal.sql.types import sql_signatures
from epochal.sql.windows import WindowFunction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.kind import Kind
    from epochal.sql.function import Function
    from epochal.sql.sql_scan import Call

SQL_KINDS: Final = cast(
    "tuple[Kind[Any], ...]", (scalar, aggregate, window, table_function, index, mergeable_state)
)
"""The kinds that SQL calls."""

_SUFFIXES: Final = {mergeable_state.name: ("", STATE_SUFFIX, MERGE_SUFFIX)}
"""What the names in SQL add to the name of one export."""

_KEY: Final = "epochal.sql.function_registry"


class FunctionIndex:
    """Every name that SQL can call in one epoch; functions are made as queries name them.

    Attributes:
        names: full name -> the kinds under which it is exported, mostly one.
        plugins: the ids of the epoch's plugins.
    """

    __slots__ = ("_folded", "_functions", "names", "plugins")

    # ``_functions`` is filled by any thread, with `dict.setdefault`: of two that make the same
    # function one wins. The rest is never altered.

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
        """The full name that a call means: as written, or else in any case; None for no such."""
        return call.name if call.name in self.names else self._folded.get(call.folded.lower())

    def functions(self, name: str, epoch: Epoch) -> Iterator[Function]:
        """What a full name stands for.

        Raises:
            QueryError: a function has the name that a mergeable state's is called by.
        """
        kinds = self.names[name]
        if len(kinds) > 1 and (kept := _state_behind(epoch, name)):
            raise QueryError(
                f"{name} is a function, and a part of the mergeable state {kept}: "
                "one of the two needs another name"
            )
        for kind in kinds:
            key = (kind, name)
            found = self._functions.get(key)
            if found is None:
                found = self._functions.setdefault(key, _make(epoch, kind, name))
            yield found

    def advice(self, name: str) -> str:
        """What to tell somebody whose SQL calls a function that there is not; may be empty."""
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
    """How each function of an epoch is called in SQL, sorted."""
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
    return TableMaker(export, generation, table_function.shape(export))


def _make_mergeable(epoch: Epoch, name: str) -> Function:
    kept = _state_behind(epoch, name)
    export = epoch.export(mergeable_state, kept or name)
    make = _MERGEABLE[name.removeprefix(kept)] if kept else AggregateFunction
    return make(export, epoch.generation(export.plugin), mergeable_state.shape(export))


_MERGEABLE: Final[dict[str, type[AggregateFunction]]] = {
    STATE_SUFFIX: StateFunction,
    MERGE_SUFFIX: MergeFunction,
}


def _state_behind(epoch: Epoch, name: str) -> str:
    """The mergeable state whose name is a part of this one; empty for none."""
    bases = (name.removesuffix(suffix) for suffix in _MERGEABLE if name.endswith(suffix))
    return next((base for base in bases if base in epoch[mergeable_state]), "")
