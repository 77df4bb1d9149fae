"""A kind: the type of an export.

A kind is three things at once: the marker that plugin authors put on a function, the key into an
epoch, and the rules for reload. Hosts define their own with the machinery that the built-in kinds
use::

    tool = Kind("agent.tool")              # in the host's module, which plugins import

    @tool                                  # in a plugin
    def search(query: str) -> list[str]: ...

    epoch[tool]["web.search"]("epochs")    # in the host

A kind that has rules overrides `options`, `validate` and `compare`. All three run while a change is
staged: whatever they raise rolls the change back, and nothing that serves has been touched.

A marker registers nothing: it leaves a `Mark` on the object and returns the object itself. The
runtime reads the marks when it links a generation, so importing a plugin's file by hand, in its own
tests say, has no effect beyond the plugin's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MARKS: Final = "__epochal_marks__"
"""The attribute in which markers leave their marks: a tuple of `Mark`."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a marker left on an object: "export this as a … named …"."""

    kind: Kind[Any]
    name: str | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """One thing that a generation offers, as its kind sees it while a change is staged.

    Attributes:
        kind: the kind it was marked with.
        name: its full name, `plugin.name`.
        plugin: id of the plugin that offers it.
        options: what the marker was given, as `Kind.options` returned it.
        target: the plugin's own object. It carries no lease: look at it, do not keep it and do not
            call it. What may be called is in the epoch.
    """

    kind: Kind[Any]
    name: str
    plugin: str
    options: Mapping[str, Any] = field(repr=False)
    target: Any = field(repr=False)


class Kind(Generic[F]):
    """The type of an export: marker, key into an epoch, rules for reload.

    Args:
        name: dotted lower-case name, which is also the capability that a plugin needs to export
            this kind (`scalar`, `agent.tool`).
        description: one line for people.
    """

    __slots__ = ("__weakref__", "description", "name")

    def __init__(self, name: str, description: str = "") -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"kind name {name!r} is not valid: expected lower-case words joined by dots, "
                "such as 'scalar' or 'agent.tool'"
            )
        self.name: Final = name
        self.description: Final = description

    @overload
    def __call__(self, target: F, /) -> F: ...
    @overload
    def __call__(self, *, name: str | None = None, **options: Any) -> Callable[[F], F]: ...
    def __call__(  # type: ignore[misc]  # the two forms above are all that callers see
        self, target: F | None = None, /, *, name: str | None = None, **options: Any
    ) -> F | Callable[[F], F]:
        """Mark an object as an export of this kind: `@kind` or `@kind(name=…, option=…)`.

        Args:
            target: the function, class or callable to export.
            name: its name within the plugin; the object's `__name__` when left out.
            **options: what the kind understands; see `options`.

        Returns:
            The object itself, or a decorator that returns it.

        Raises:
            TypeError: an option that this kind does not know, or an object that cannot be marked.
        """
        mark = Mark(self, name, MappingProxyType(dict(self.options(**options))))

        def apply(target: F) -> F:
            try:
                # Own marks only: a subclass of a marked class is not itself exported.
                own = getattr(target, "__dict__", {}).get(MARKS, ())
                setattr(target, MARKS, (*own, mark))
            except (AttributeError, TypeError):
                raise TypeError(
                    f"{target!r} cannot be marked as {self.name}: it takes no attributes; "
                    f"export it with ctx.export({self.name}, …) in register(ctx)"
                ) from None
            return target

        return apply if target is None else apply(target)

    def options(self, **options: Any) -> Mapping[str, Any]:
        """Check the options given to the marker, fill in defaults, return them.

        The plain kind has none. Override with the keywords that yours understands.

        Raises:
            TypeError: an option that this kind does not know.
        """
        if options:
            raise TypeError(f"{self.name} takes no options, but was given {sorted(options)}")
        return options

    def validate(self, export: Export) -> None:
        """Raise `ValueError` or `TypeError`, with the reason, if this cannot be an export.

        The plain kind asks that it can be called.
        """
        if not callable(export.target):
            raise TypeError(f"expected something that can be called, not {export.target!r}")

    def compare(self, old: Export, new: Export) -> None:
        """Raise `ValueError`, with the difference spelled out, if `new` cannot replace `old`.

        Called for each name that both versions export. The plain kind accepts everything: old
        operations finish on the old export, new ones start on the new.
        """

    def __repr__(self) -> str:
        return f"<kind {self.name}>"


def marks_of(target: object) -> tuple[Mark, ...]:
    """The marks on an object itself (not those inherited from a base class)."""
    own = getattr(target, "__dict__", None)
    marks = own.get(MARKS, ()) if own is not None else ()
    return tuple(marks)
