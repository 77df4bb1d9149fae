"""Hooks: one event of the host, in which any number of plugins take part.

A hook is a kind of its own, defined by the host in a module that plugins import::

    order_placed = Hook("shop.order_placed")                   # in the host

    @order_placed(after=["stock"])                             # in a plugin
    def add_points(order): ...

    order_placed.call(rt.epoch, order)                         # in the host: every result
    order_placed.first(rt.epoch, order)                        # the first that is not None
    may_refund.ask(rt.epoch, order)                            # does any plugin object?

The implementations and their order are computed once for each epoch: by the plugins' ids, unless
`first`, `last`, `before` or `after` ask for another place. A request about a plugin that is not
active has no effect; a change that would close a circle is refused.

An implementation that raises ends the call, and its error reaches the caller. So does an answer
that cannot be accepted: a coroutine that is not awaited answers nothing, and an answer that is
neither yes nor no must not pass for a yes. `acall`, `afirst` and `aask` await implementations that
are `async def`, one after another.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, NoReturn

from epochal._core.generation.kind import Export, Kind
from epochal.errors import HookAnswerError
from epochal.kinds.toolkit.call_checks import check_calls, is_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.operation import Operation
    from epochal.kinds.marker_types import HookMarker

_PLAIN: Final = frozenset({bool, int, float, str, bytes, tuple, list, dict, set, frozenset})
# The types of most results. A look here takes 30 ns; `isawaitable` takes 400 ns, as long as the
# whole rest of a call.


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of an implementation that objects and gives a reason.

    Attributes:
        reason: for people.
        by: the full name of the export that objected; filled in by `Hook.ask`.
    """

    reason: str = ""
    by: str = ""

    def __str__(self) -> str:
        return f"{self.by}: {self.reason}" if self.reason else self.by


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to `Hook.ask`: true if no implementation objected.

    Attributes:
        refusals: the objections, in the hook's order.
    """

    refusals: tuple[Refusal, ...] = ()

    def __bool__(self) -> bool:
        return not self.refusals


class Hook(Kind[Any]):
    """An event that plugins take part in.

    Args:
        name: the kind's name, which is also the capability that a plugin needs.
        description: one line for people.
        spec: a function with the parameters that the host calls the hook with. An implementation
            that could not be called so, by position or by name, is refused. None accepts any.
    """

    __slots__ = ("_spec",)

    if TYPE_CHECKING:
        __call__: HookMarker  # type: ignore[assignment]  # overloads

    def __init__(
        self, name: str, description: str = "", *, spec: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(name, description)
        self._spec: Final = inspect.signature(spec) if spec is not None else None

    # --- calling -----------------------------------------------------------------------------

    def call(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> list[Any]:
        """Call every implementation, in order.

        Args:
            epoch: the epoch with the plugins that take part, or an operation that pins one.
            *args: passed to each.
            **kw: passed to each.

        Returns:
            Their results, without None.

        Raises:
            HookAnswerError: an implementation returned an awaitable; use `acall`.
        """
        results: list[Any] = []
        for function in epoch.derived(self, self._order).values():
            result = function(*args, **kw)
            if result is not None:
                if type(result) not in _PLAIN and inspect.isawaitable(result):
                    self._refuse(epoch, function, result)
                results.append(result)
        return results

    def first(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> Any:
        """Call implementations in order, and return the first result that is not None.

        Raises:
            HookAnswerError: an implementation returned an awaitable; use `afirst`.
        """
        for function in epoch.derived(self, self._order).values():
            result = function(*args, **kw)
            if result is not None:
                if type(result) not in _PLAIN and inspect.isawaitable(result):
                    self._refuse(epoch, function, result)
                return result
        return None

    def ask(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> Verdict:
        """Ask every implementation whether it objects: it returns False or a `Refusal` if it does.

        Returns:
            The verdict, true if no implementation objected.

        Raises:
            HookAnswerError: an answer is neither of these, nor None or True. It is ambiguous, and
                so not taken for consent. An implementation that is `async def` needs `aask`.
        """
        refusals: list[Refusal] = []
        for name, function in epoch.derived(self, self._order).items():
            answer = function(*args, **kw)
            if answer is not None and answer is not True:
                refusals.append(self._refusal(epoch, name, function, answer))
        return Verdict(tuple(refusals))

    async def acall(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> list[Any]:
        """Like `call`, for implementations that may be `async def`; awaits one after another."""
        results: list[Any] = []
        for function in epoch.derived(self, self._order).values():
            result = await _awaited(function(*args, **kw))
            if result is not None:
                results.append(result)
        return results

    async def afirst(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> Any:
        """Like `first`, for implementations that may be `async def`; awaits one after another."""
        for function in epoch.derived(self, self._order).values():
            result = await _awaited(function(*args, **kw))
            if result is not None:
                return result
        return None

    async def aask(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> Verdict:
        """Like `ask`, for implementations that may be `async def`; awaits one after another.

        Raises:
            HookAnswerError: as for `ask`.
        """
        refusals: list[Refusal] = []
        for name, function in epoch.derived(self, self._order).items():
            answer = await _awaited(function(*args, **kw))
            if answer is not None and answer is not True:
                refusals.append(self._refusal(epoch, name, function, answer))
        return Verdict(tuple(refusals))

    def _refusal(
        self, epoch: Epoch | Operation, name: str, function: Callable[..., Any], answer: Any
    ) -> Refusal:
        if answer is False:
            return Refusal("", name)
        if not isinstance(answer, Refusal):
            self._refuse(epoch, function, answer)
        return Refusal(answer.reason, name)

    def _refuse(
        self, epoch: Epoch | Operation, function: Callable[..., Any], answer: Any
    ) -> NoReturn:
        """Raise `HookAnswerError` for an answer that cannot be accepted."""
        order = epoch.derived(self, self._order)
        name = next(name for name, other in order.items() if other is function)
        plugin = name.partition(".")[0]
        if not inspect.isawaitable(answer):
            raise HookAnswerError(
                f"{name} answered {self.name} with {answer!r}: expected None or True to agree, "
                "False or a Refusal to object",
                plugin=plugin,
            )
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that it was never awaited
        raise HookAnswerError(
            f"{name} answered {self.name} with an awaitable ({type(answer).__name__}): "
            "call the hook with acall, afirst or aask",
            plugin=plugin,
        )

    def _order(self, epoch: Epoch) -> Mapping[str, Callable[..., Any]]:
        exports = epoch[self]
        names = call_order([epoch.export(self, name) for name in exports])
        return {name: exports[name] for name in names}

    # --- rules -------------------------------------------------------------------------------

    def options(self, **options: Any) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            **options: `first` and `last`, flags; `before` and `after`, ids of plugins, one or
                several.

        Raises:
            TypeError: the kind has no such option, or both `first` and `last` are given.
        """
        known = {"first": False, "last": False, "before": (), "after": ()}
        if unknown := sorted(options.keys() - known.keys()):
            raise TypeError(f"{self.name} has the options {', '.join(known)}, not {unknown[0]!r}")
        given = {**known, **options}
        if given["first"] and given["last"]:
            raise TypeError(f"{self.name} cannot be both first and last")
        for side in ("before", "after"):
            value = given[side]
            given[side] = (value,) if isinstance(value, str) else tuple(value)
        return given

    def validate(self, export: Export) -> None:
        """Require a function that can be called as the host will call it.

        Raises:
            TypeError: it is a generator function, or does not take the calls of the specification.
            ValueError: it asks for a place beside its own plugin.
        """
        super().validate(export)
        call = getattr(type(export.target), "__call__", None)  # noqa: B004  the attribute itself
        if is_generator(export.target) or is_generator(call):
            raise TypeError("it has a `yield`, so calling it would run none of it: return instead")
        for side in ("before", "after"):
            if export.plugin in export.options[side]:
                raise ValueError(
                    f"{side}={export.plugin!r} is its own plugin: name others, or leave it out"
                )
        if self._spec is not None:
            check_calls(self._spec, inspect.signature(export.target))

    def validate_together(self, exports: Sequence[Export]) -> None:
        """Refuse requests about the order that contradict each other.

        Raises:
            ValueError: they form a circle.
        """
        call_order(exports)


def call_order(exports: Sequence[Export]) -> list[str]:
    """Return the names of a hook's exports in the order in which they are called.

    Raises:
        ValueError: their requests form a circle.
    """
    by_plugin: dict[str, list[str]] = {}
    for export in exports:
        by_plugin.setdefault(export.plugin, []).append(export.name)
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for export in exports:
        sorter.add(export.name)
        for plugin in export.options["after"]:
            sorter.add(export.name, *by_plugin.get(plugin, ()))
        for plugin in export.options["before"]:
            for name in by_plugin.get(plugin, ()):
                sorter.add(name, export.name)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ValueError(f"their order forms a circle: {circle}") from None
    ranks = {export.name: _rank(export) for export in exports}
    names: list[str] = []
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heappush(ready, ranks[name])
        _, name = heappop(ready)
        names.append(name)
        sorter.done(name)
    return names


def _rank(export: Export) -> tuple[int, str]:
    """Return an export's place among those that it may change places with."""
    return (int(export.options["last"]) - int(export.options["first"]), export.name)


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
