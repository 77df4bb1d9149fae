"""Hooks: one event of the host, any number of plugins that take part in it.

A hook is a kind of its own, defined by the host in a module that plugins import::

    order_placed = Hook("shop.order_placed")                   # in the host

    @order_placed(after=["stock"])                             # in a plugin
    def add_points(order): ...

    order_placed.call(rt.epoch, order)                         # in the host: every result
    order_placed.first(rt.epoch, order)                        # the first that is not None
    may_refund.ask(rt.epoch, order)                            # does anybody object?

Who takes part, and in what order, is settled once for each epoch: by the plugins' ids, unless
`first`, `last`, `before` or `after` say otherwise. What was said of plugins that are not active has
no effect; a circle refuses the change that would close it.

An implementation that raises ends the call, and its error is the caller's.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from epochal._core.kind import Export, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epochal._core.epoch import Epoch
    from epochal._core.operation import Operation


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an implementation returns to object, if it wants to say why.

    Attributes:
        reason: in a person's words.
        by: the full name of the export that objected; filled in by `Hook.ask`.
    """

    reason: str = ""
    by: str = ""

    def __str__(self) -> str:
        return f"{self.by}: {self.reason}" if self.reason else self.by


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to `Hook.ask`: true if nobody objected.

    Attributes:
        refusals: who objected, in the hook's order.
    """

    refusals: tuple[Refusal, ...] = ()

    def __bool__(self) -> bool:
        return not self.refusals


class Hook(Kind[Any]):
    """An event that plugins take part in.

    Args:
        name: the kind's name, which is the capability too.
        description: one line for people.
        spec: a function with the parameters that the host calls the hook with; implementations that
            could not be called so are refused. None accepts any.
    """

    __slots__ = ("_spec",)

    def __init__(
        self, name: str, description: str = "", *, spec: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(name, description)
        self._spec: Final = inspect.signature(spec) if spec is not None else None

    # --- calling -----------------------------------------------------------------------------

    def call(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> list[Any]:
        """Call every implementation, in order.

        Args:
            epoch: whose plugins take part: an epoch, or an operation that pins one.
            *args: what each is called with.
            **kw: what each is called with.

        Returns:
            What they returned, without None.
        """
        results: list[Any] = []
        for function in epoch.derived(self, self._order).values():
            result = function(*args, **kw)
            if result is not None:
                results.append(result)
        return results

    def first(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> Any:
        """Call implementations in order until one returns something; None if none does."""
        for function in epoch.derived(self, self._order).values():
            result = function(*args, **kw)
            if result is not None:
                return result
        return None

    def ask(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> Verdict:
        """Ask every implementation whether it objects: it returns False or a `Refusal` if it does.

        Returns:
            The verdict, true if nobody objected.
        """
        refusals: list[Refusal] = []
        for name, function in epoch.derived(self, self._order).items():
            answer = function(*args, **kw)
            if answer is False or isinstance(answer, Refusal):
                refusals.append(Refusal(answer.reason if answer else "", name))
        return Verdict(tuple(refusals))

    async def acall(self, epoch: Epoch | Operation, /, *args: Any, **kw: Any) -> list[Any]:
        """`call` for implementations that may be `async def`: one after another, each awaited."""
        results: list[Any] = []
        for function in epoch.derived(self, self._order).values():
            result = function(*args, **kw)
            if inspect.isawaitable(result):
                result = await result
            if result is not None:
                results.append(result)
        return results

    def _order(self, epoch: Epoch) -> Mapping[str, Callable[..., Any]]:
        exports = epoch[self]
        return {name: exports[name] for name in ordered([epoch.export(self, n) for n in exports])}

    # --- rules -------------------------------------------------------------------------------

    def options(self, **options: Any) -> Mapping[str, Any]:
        """`first`, `last` (flags), `before`, `after` (ids of plugins, one or several)."""
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
        """Ask for something that can be called as the host will call it."""
        super().validate(export)
        if self._spec is None:
            return
        implementation = inspect.signature(export.target)
        try:
            implementation.bind(*_arguments(self._spec), **_keywords(self._spec))
        except TypeError as error:
            raise TypeError(
                f"it is called as {self._spec}, and {implementation} does not take that: {error}"
            ) from None

    def validate_together(self, exports: Sequence[Export]) -> None:
        """Refuse an order that cannot be had."""
        ordered(exports)


def ordered(exports: Sequence[Export]) -> list[str]:
    """The names of a hook's exports in the order in which they are called.

    Raises:
        ValueError: what they ask for goes round in a circle.
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
        raise ValueError(f"their order goes round in a circle: {circle}") from None
    return _drained(sorter, {export.name: _wish(export) for export in exports})


def _wish(export: Export) -> tuple[int, str]:
    """Where an export goes among those that it may change places with."""
    return (int(export.options["last"]) - int(export.options["first"]), export.name)


def _drained(sorter: TopologicalSorter[str], wishes: Mapping[str, tuple[int, str]]) -> list[str]:
    names: list[str] = []
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heappush(ready, wishes[name])
        _, name = heappop(ready)
        names.append(name)
        sorter.done(name)
    return names


def _arguments(spec: inspect.Signature) -> list[None]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [None for parameter in spec.parameters.values() if parameter.kind in kinds]


def _keywords(spec: inspect.Signature) -> dict[str, None]:
    only = inspect.Parameter.KEYWORD_ONLY
    return {name: None for name, parameter in spec.parameters.items() if parameter.kind is only}
