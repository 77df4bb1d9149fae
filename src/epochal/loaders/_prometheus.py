"""Metrics that plugins define: `prometheus_client` for one generation.

The problem: a registry of metrics refuses a second metric of a name, so a module that defines one
as it is imported, as nearly all do, could be loaded once and never reloaded; and the registry would
keep the old generation's collectors for ever.

The idea: code of a plugin that imports `prometheus_client` is given a stand-in, in which the
default registry is the generation's *view* of it. What is registered through a view is in the real
registry at once, and a scrape shows each metric once:

- a metric like one that another generation of the plugin has (same type, labels and buckets) is
  *that* metric: both generations count in it, so no count is lost, none begins at 0 again, and the
  scrape has it at every instant;
- anything else of that name (the metric was changed; a collector of the plugin's own class) takes
  the other's place, and gives it back if its change fails.

When a generation is removed, the metrics that no other generation has leave the registry. A name
that the host, or another plugin, has registered is refused as ever. What a library of the host
registers on a plugin's behalf is the host's.

Nothing is imported here: a plugin that imports `prometheus_client` finds it installed by the host.

Who reads, who writes: collectors change places under ``_lock``, which is re-entrant: the registry
calls a collector's `describe` as it takes it in, under a lock of its own, which is not.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.sync.weak_registry import WeakRegistry
from epochal.loaders._module_proxies import ModuleProxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME: Final = "prometheus_client"

_lock: Final = threading.RLock()


@dataclass(slots=True, eq=False)
class _Metric:
    """A collector that a generation registered.

    Attributes:
        own: what its code has in hand.
        standing: what is in the registry for it: itself, or the like metric of another generation.
        names: what no other may be called.
        displaced: what stood there before, and gets its place back if this one goes first.
    """

    own: Any
    standing: Any
    names: tuple[str, ...]
    displaced: _Metric | None = None


class Metrics:
    """What one generation has to do with `prometheus_client`.

    Args:
        plugin: its plugin's id; generations of one plugin hand metrics over.
    """

    def __init__(self, plugin: str) -> None:
        self.plugin: Final = plugin
        self.metrics: Final[list[_Metric]] = []  # altered under `_lock`
        self._registry: Any = None  # the real one, from its first use on

    def stand_in(self, module: ModuleType) -> ModuleType:
        """What the generation's code gets for `prometheus_client` or a submodule of it."""
        return _Module(module, self)

    def view(self, registry: Any) -> Any:
        """This generation's view of the default registry."""
        if self._registry is None:
            self._registry = registry
            _users.add(self)
        cls: type = type(registry)
        return _view_class(cls)(registry, self)

    def register(self, collector: Any) -> None:
        """Register a collector, in the place of another generation's where there is one."""
        registry = self._registry
        # The registry's own rule of what clashes; it has no public name.
        names = tuple(registry._get_names(collector))  # noqa: SLF001
        with _lock:
            old = self._of_others(names)
            if old is not None and _is_like(collector, old.standing):
                # Two views of one metric.
                collector.__dict__ = vars(old.standing)
                self.metrics.append(_Metric(collector, old.standing, names))
                return
            if old is not None:
                registry.unregister(old.standing)
            try:
                registry.register(collector)
            except BaseException:
                if old is not None:
                    registry.register(old.standing)
                raise
            self.metrics.append(_Metric(collector, collector, names, old))

    def unregister(self, collector: Any) -> None:
        """Take a collector out; the plugin's own wish."""
        with _lock:
            found = next((metric for metric in self.metrics if metric.own is collector), None)
            if found is None:
                self._registry.unregister(collector)
            else:
                self._take_out(found)

    def take_out_all(self) -> list[str]:
        """Take out whatever no other generation has; returns what was taken out, a line each."""
        taken: list[str] = []
        with _lock:
            for metric in reversed(self.metrics.copy()):
                if self._take_out(metric):
                    name = metric.names[0] if metric.names else type(metric.own).__qualname__
                    taken.append(f"prometheus metric {name}")
        return taken

    def _take_out(self, metric: _Metric) -> bool:
        self.metrics.remove(metric)
        others = list(self._others())
        heirs = [m for m in others if m.displaced is not None and m.displaced.own is metric.own]
        for heir in heirs:
            heir.displaced = metric.displaced
        if heirs or any(other.standing is metric.standing for other in others):
            return False
        try:
            self._registry.unregister(metric.standing)
        except KeyError:  # somebody else has taken it out
            return False
        if metric.displaced is not None and metric.displaced in others:
            self._registry.register(metric.displaced.standing)
        return True

    def _others(self) -> Iterator[_Metric]:
        """What the other generations of this plugin have."""
        for user in _users.live():
            if user is not self and user.plugin == self.plugin:
                yield from user.metrics

    def _of_others(self, names: tuple[str, ...]) -> _Metric | None:
        """The metric of another generation that has one of these names, if it stands."""
        others = list(self._others())
        gone = [metric.displaced for metric in others if metric.displaced is not None]
        found = [m for m in others if {*m.names} & {*names} and not any(m is one for one in gone)]
        return found[-1] if found else None


_users: Final[WeakRegistry[Metrics]] = WeakRegistry()


def _is_like(new: Any, old: Any) -> bool:
    """Whether two metrics are the library's own and defined alike."""
    if type(new) is not type(old) or type(new).__module__.partition(".")[0] != NAME:
        return False
    if vars(new).keys() != vars(old).keys():
        return False  # `set_function` was called on one
    return _definition(new) == _definition(old)


def _definition(metric: Any) -> dict[str, Any]:
    """What a metric was made with: the attributes that are texts, numbers, or several of those."""
    return {
        name: value
        for name, value in vars(metric).items()
        if name not in _STATE and all(isinstance(item, _PLAIN) for item in _items(value))
    }


_STATE: Final = frozenset({"_created", "_value"})
_PLAIN: Final = (str, int, float, type(None))


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, (tuple, list)) else (value,)


# --- what the plugin sees ------------------------------------------------------------------------


class _Module(ModuleProxy):
    """`prometheus_client`, or a submodule, whose default registry is the generation's view."""

    def __init__(self, module: ModuleType, metrics: Metrics) -> None:
        super().__init__(module)
        self._metrics: Final = metrics

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        registry = _default_registry()
        if value is registry:
            return self._metrics.view(registry)
        if isinstance(value, ModuleType) and value.__name__.startswith(f"{NAME}."):
            return _Module(value, self._metrics)
        if isinstance(value, type) and _registers_by_default(value, registry):
            return _of_view(value, self._metrics.view(registry))
        return value


def _default_registry() -> Any:
    return sys.modules[NAME].REGISTRY


def _registers_by_default(cls: type, registry: Any) -> bool:
    parameter = _signature(cls).parameters.get("registry")
    return parameter is not None and parameter.default is registry


@functools.cache
def _signature(cls: type) -> inspect.Signature:
    # The cache is of the library's classes, which stay.
    try:
        return inspect.signature(cls)
    except ValueError:
        return inspect.Signature()


@functools.cache
def _metaclass(base: type) -> type:
    """The metaclass of metric classes that register with a view unless told otherwise.

    What they make are plain metrics; a subclass of one is an ordinary class.
    """

    class OfView(base):  # type: ignore[misc]  # the host's class, known at run time
        def __call__(cls, *args: Any, **kw: Any) -> Any:  # noqa: N805  a metaclass's
            plain = vars(cls).get("_plain")
            if plain is None:
                return super().__call__(*args, **kw)
            return plain(*args, **vars(cls)["_with_view"](args, kw))

        def __instancecheck__(cls, instance: object) -> bool:  # noqa: N805
            return bool(cls.__subclasscheck__(type(instance)))

        def __subclasscheck__(cls, subclass: type) -> bool:  # noqa: N805
            return type.__subclasscheck__(vars(cls).get("_plain", cls), subclass)

    return OfView


def _of_view(base: type, view: Any) -> type:
    def with_view(args: tuple[Any, ...], kw: dict[str, Any]) -> dict[str, Any]:
        given = _signature(base).bind_partial(*args, **kw).arguments
        return kw if "registry" in given else {**kw, "registry": view}

    def __init__(self: Any, *args: Any, **kw: Any) -> None:  # noqa: N807  a subclass's way here
        base.__init__(self, *args, **with_view(args, kw))  # type: ignore[misc]  # its own

    names = {"_plain": base, "_with_view": with_view, "__init__": __init__}
    about = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    made: type = _metaclass(type(base))(base.__name__, (base,), {**names, **about})
    return made


@functools.cache
def _view_class(base: type) -> type:
    """A registry that is another one, but for who registers."""

    class View(base):  # type: ignore[misc]  # the host's class, known at run time
        def __init__(self, registry: Any, metrics: Metrics) -> None:
            object.__setattr__(self, "_registry", registry)
            object.__setattr__(self, "_metrics", metrics)

        def register(self, collector: Any) -> None:
            self._metrics.register(collector)

        def unregister(self, collector: Any) -> None:
            self._metrics.unregister(collector)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._registry, name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(self._registry, name, value)

    return View
