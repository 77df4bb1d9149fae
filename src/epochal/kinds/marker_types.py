"""The markers of the kinds as type checkers see them: what they take, and that they change nothing.

A marked function or class keeps its own type, and a keyword that the marker does not know is an
error of the type checker. At run time a marker is its kind (`Kind.__call__`), which hands the
keywords to `Kind.options`; nothing here is imported then. A kind states its marker in one line::

    class ScalarKind(Kind[Callable[..., Any]]):
        if TYPE_CHECKING:
            __call__: ScalarMarker
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from datetime import datetime

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type[Any])

Volatility: TypeAlias = Literal["volatile", "stable", "immutable"]


class FunctionMarker(Protocol):
    """Marks a function; has no options."""

    @overload
    def __call__(self, target: Function, /) -> Function: ...
    @overload
    def __call__(self, *, name: str | None = ...) -> Callable[[Function], Function]: ...


class ClassMarker(Protocol):
    """Marks a class; has no options."""

    @overload
    def __call__(self, target: Class, /) -> Class: ...
    @overload
    def __call__(self, *, name: str | None = ...) -> Callable[[Class], Class]: ...


class ScalarMarker(Protocol):
    """Marks a scalar function; see `ScalarKind.options`."""

    @overload
    def __call__(self, target: Function, /) -> Function: ...
    @overload
    def __call__(
        self, *, name: str | None = ..., volatility: Volatility = ..., vectorized: bool = ...
    ) -> Callable[[Function], Function]: ...


class AggregateMarker(Protocol):
    """Marks a class that aggregates; see `AggregateKind.options`."""

    @overload
    def __call__(self, target: Class, /) -> Class: ...
    @overload
    def __call__(
        self, *, name: str | None = ..., vectorized: bool = ...
    ) -> Callable[[Class], Class]: ...


class WindowMarker(Protocol):
    """Marks a window function; see `WindowKind.options`."""

    @overload
    def __call__(self, target: Function, /) -> Function: ...
    @overload
    def __call__(
        self, *, name: str | None = ..., frame: bool = ..., vectorized: bool = ...
    ) -> Callable[[Function], Function]: ...


class JobMarker(Protocol):
    """Marks a job, with exactly one schedule; see `JobKind.options`."""

    @overload
    def __call__(
        self, *, name: str | None = ..., every: float | str
    ) -> Callable[[Function], Function]: ...
    @overload
    def __call__(self, *, name: str | None = ..., cron: str) -> Callable[[Function], Function]: ...
    @overload
    def __call__(
        self, *, name: str | None = ..., at: datetime | str
    ) -> Callable[[Function], Function]: ...


class StorageMarker(Protocol):
    """Marks a storage backend, which must have a scheme; see `StorageKind.options`."""

    def __call__(self, *, name: str | None = ..., scheme: str) -> Callable[[Class], Class]:
        """Return a decorator that returns its class."""
        ...


class ToolMarker(Protocol):
    """Marks a tool of agents; see `ToolKind.options`."""

    @overload
    def __call__(self, target: Function, /) -> Function: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = ...,
        title: str | None = ...,
        read_only: bool | None = ...,
        destructive: bool | None = ...,
        idempotent: bool | None = ...,
        timeout: float | None = ...,
    ) -> Callable[[Function], Function]: ...


class ResourceMarker(Protocol):
    """Marks a resource of agents, which must have an address; see `ResourceKind.options`."""

    def __call__(
        self,
        *,
        uri: str,
        name: str | None = ...,
        title: str | None = ...,
        mime_type: str | None = ...,
    ) -> Callable[[Function], Function]:
        """Return a decorator that returns its function."""
        ...


class PromptMarker(Protocol):
    """Marks a prompt of agents; see `PromptKind.options`."""

    @overload
    def __call__(self, target: Function, /) -> Function: ...
    @overload
    def __call__(
        self, *, name: str | None = ..., title: str | None = ...
    ) -> Callable[[Function], Function]: ...


class HookMarker(Protocol):
    """Marks an implementation of a hook; see `Hook.options`."""

    @overload
    def __call__(self, target: Function, /) -> Function: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = ...,
        first: bool = ...,
        last: bool = ...,
        before: str | Iterable[str] = ...,
        after: str | Iterable[str] = ...,
    ) -> Callable[[Function], Function]: ...
