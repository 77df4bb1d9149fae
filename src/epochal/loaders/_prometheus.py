"""Metrics that plugins define: `prometheus_client` for one generation.

The problem: a registry of metrics refuses a second metric of a name, so a module that defines one
as it is imported, as nearly all do, could be loaded once and never reloaded; and the registry would
keep the old generation's collectors for ever.

The idea: a plugin that imports `prometheus_client` gets a proxy, in which the default registry is
the generation's *view* of it. A collector registered through a view is in the real registry at
once, and a scrape shows each metric once:

- a metric like one that another generation of the plugin has (same type, labels and buckets) is
  *that* metric: both generations count in it, so no count is lost, none begins at 0 again, and the
  scrape has it at every instant;
- any other collector of that name (the metric was changed; a class of the plugin's own) takes the
  old one's place, and gives it back if its change fails.

When a generation is removed, the metrics that no other generation has leave the registry. A name
that the host, or another plugin, has registered is refused as ever. A collector that a library of
the host registers on a plugin's behalf is the host's.

This module does not import `prometheus_client`: a plugin that does finds the host's installation.

Threads: collectors change places under ``_lock``. It is re-entrant, because the
registry calls a collector's `describe` as it takes the collector in, which is code of the plugin.
The registry does so under a lock of its own, which is not re-entrant; it is taken inside of ours.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.sync.forks import free_in_child
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.loaders._module_proxies import ModuleProxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME: Final = "prometheus_client"

_lock: Final = free_in_child(threading.RLock())


@dataclass(slots=True, eq=False)
class _Metric:
    """A collector that a generation registered.

    Attributes:
        collector: the object that the generation's code has.
        registered: the object in the registry: the same, or the like metric of another generation.
        names: the names that it occupies in the registry.
        displaced: the metric that it replaced; registered again if this one goes first.
    """

    collector: Any
    registered: Any
    names: tuple[str, ...]
    displaced: _Metric | None = None


class GenerationMetrics:
    """The collectors of one generation, and the proxies through which it registers them.

    Generations of one plugin hand their metrics over.
    """

    def __init__(self, plugin: str) -> None:
        self.plugin: Final = plugin
        self.metrics: Final[list[_Metric]] = []  # changed under `_lock`
        self._registry: Any = None  # the real one, once it was used

    def proxy_for(self, module: ModuleType) -> ModuleType:
        """The proxy for `prometheus_client` or a submodule of it."""
        return _PrometheusProxy(module, self)

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
        # The registry's own rule of which names clash; it has no public name.
        names = tuple(registry._get_names(collector))  # noqa: SLF001
        with _lock:
            old = self._metric_of_others(names)
            if old is not None and _is_like(collector, old.registered):
                # Two objects of one metric: they share their values.
                collector.__dict__ = vars(old.registered)
                self.metrics.append(_Metric(collector, old.registered, names))
                return
            if old is not None:
                registry.unregister(old.registered)
            try:
                registry.register(collector)
            except BaseException:
                if old is not None:
                    registry.register(old.registered)
                raise
            self.metrics.append(_Metric(collector, collector, names, old))

    def unregister(self, collector: Any) -> None:
        """Unregister a collector at the plugin's request."""
        with _lock:
            for metric in self.metrics:
                if metric.collector is collector:
                    self._remove(metric)
                    return
            self._registry.unregister(collector)

    def unregister_all(self) -> list[str]:
        """Unregister every metric that no other generation has; returns a line for each."""
        removed: list[str] = []
        with _lock:
            for metric in reversed(self.metrics.copy()):
                if self._remove(metric):
                    name = metric.names[0] if metric.names else type(metric.collector).__qualname__
                    removed.append(f"prometheus metric {name}")
        return removed

    def _remove(self, metric: _Metric) -> bool:
        """Forget a metric; returns whether it left the registry."""
        self.metrics.remove(metric)
        others = list(self._metrics_of_others())
        heirs = [m for m in others if m.displaced and m.displaced.collector is metric.collector]
        for heir in heirs:
            heir.displaced = metric.displaced
        if heirs or any(other.registered is metric.registered for other in others):
            return False
        try:
            self._registry.unregister(metric.registered)
        except KeyError:  # the host has unregistered it
            return False
        if metric.displaced is not None and metric.displaced in others:
            self._registry.register(metric.displaced.registered)
        return True

    def _metrics_of_others(self) -> Iterator[_Metric]:
        """The metrics of the other generations of this plugin."""
        for user in _users.live():
            if user is not self and user.plugin == self.plugin:
                yield from user.metrics

    def _metric_of_others(self, names: tuple[str, ...]) -> _Metric | None:
        """The registered metric of another generation that has one of these names."""
        others = list(self._metrics_of_others())
        displaced = {id(metric.displaced) for metric in others}
        metrics = [m for m in others if {*m.names} & {*names} and id(m) not in displaced]
        return metrics[-1] if metrics else None


_users: Final[WeakRegistry[GenerationMetrics]] = WeakRegistry()


def _is_like(new: Any, old: Any) -> bool:
    """Whether two metrics are of the library's own classes and have one definition."""
    if type(new) is not type(old) or type(new).__module__.partition(".")[0] != NAME:
        return False
    if vars(new).keys() != vars(old).keys():
        return False  # `set_function` was called on one
    return _definition(new) == _definition(old)


def _definition(metric: Any) -> dict[str, Any]:
    """The arguments that a metric was made with: attributes that are text, numbers, or several."""
    return {
        name: value
        for name, value in vars(metric).items()
        if name not in _STATE and all(isinstance(item, _PLAIN) for item in _items(value))
    }


_STATE: Final = frozenset({"_created", "_value"})
_PLAIN: Final = (str, int, float, type(None))


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, (tuple, list)) else (value,)


# --- the plugin's side ---------------------------------------------------------------------------


class _PrometheusProxy(ModuleProxy):
    """`prometheus_client`, or a submodule, whose default registry is the generation's view."""

    def __init__(self, module: ModuleType, metrics: GenerationMetrics) -> None:
        super().__init__(module)
        self._metrics: Final = metrics

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        registry = _default_registry()
        if value is registry:
            return self._metrics.view(registry)
        if isinstance(value, ModuleType) and value.__name__.startswith(f"{NAME}."):
            return _PrometheusProxy(value, self._metrics)
        if isinstance(value, type) and _registers_by_default(value, registry):
            return _metric_class(value, self._metrics.view(registry))
        return value


def _default_registry() -> Any:
    return sys.modules[NAME].REGISTRY


def _registers_by_default(cls: type, registry: Any) -> bool:
    parameter = _signature(cls).parameters.get("registry")
    return parameter is not None and parameter.default is registry


@functools.cache
def _signature(cls: type) -> inspect.Signature:
    # The cache holds the library's classes, which live as long as the process.
    try:
        return inspect.signature(cls)
    except ValueError:
        return inspect.Signature()


@functools.cache
def _metaclass(base: type) -> type:
    """The metaclass of metric classes that register with a view by default.

    Calling such a class makes a metric of the library's own class, which another generation can
    share; a subclass that a plugin defines is an ordinary class.
    """

    class RegistersWithView(base):  # type: ignore[misc]  # the host's class, known at run time
        def __call__(cls, *args: Any, **kw: Any) -> Any:  # noqa: N805  a metaclass's
            plain = vars(cls).get("_plain")
            if plain is None:
                return super().__call__(*args, **kw)
            return plain(*args, **vars(cls)["_with_view"](args, kw))

        def __instancecheck__(cls, instance: object) -> bool:  # noqa: N805
            return bool(cls.__subclasscheck__(type(instance)))

        def __subclasscheck__(cls, subclass: type) -> bool:  # noqa: N805
            return type.__subclasscheck__(vars(cls).get("_plain", cls), subclass)

    return RegistersWithView


def _metric_class(base: type, view: Any) -> type:
    """A metric class of the library that registers its metrics with a view by default."""

    def with_view(args: tuple[Any, ...], kw: dict[str, Any]) -> dict[str, Any]:
        given = _signature(base).bind_partial(*args, **kw).arguments
        return kw if "registry" in given else {**kw, "registry": view}

    def __init__(self: Any, *args: Any, **kw: Any) -> None:  # noqa: N807  called by subclasses
        base.__init__(self, *args, **with_view(args, kw))  # type: ignore[misc]  # its own

    names = {"_plain": base, "_with_view": with_view, "__init__": __init__}
    about = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    made: type = _metaclass(type(base))(base.__name__, (base,), {**names, **about})
    return made


@functools.cache
def _view_class(base: type) -> type:
    """A registry that forwards to another one, and registers through a generation's metrics."""

    class RegistryView(base):  # type: ignore[misc]  # the host's class, known at run time
        def __init__(self, registry: Any, metrics: GenerationMetrics) -> None:
            # Past our own `__setattr__`, which would set them on the real registry.
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

    return RegistryView
