"""A kind: the type of an export.

A kind is three things at once: the marker that plugin authors put on a function, the key into an
epoch, and the rules for reload. Hosts define their own with the machinery that the built-in kinds
use::

    tool = Kind("agent.tool")              # in the host's module, which plugins import

    @tool                                  # in a plugin
    def search(query: str) -> list[str]: ...

    epoch[tool]["web.search"]("epochs")    # in the host

A kind that has rules overrides `options`, `validate`, `compare` and `check_removed`. All of them
run while a change is staged: whatever they raise rolls the change back, and nothing that serves has
been touched.

A kind whose exports keep something overrides `open`: what it returns is made once for each
generation, after its `init`, is what the epoch offers (in a `Handle`, whose methods carry the
lease), and is given to `close` when the generation goes. `hand_over` moves what the old one keeps
to the new one, in the instant before the new epoch is published.

A marker registers nothing: it leaves a `Mark` on the object and returns the object itself. The
runtime reads the marks when it links a generation, so importing a plugin's file by hand, in its own
tests say, has no effect beyond the plugin's own.

Other libraries have markers of their own, and plugins that use them. `read_marks` has those read,
too.

Who reads, who writes
---------------------

``_readers`` is an immutable tuple, replaced by `read_marks` as a module is imported, under the lock
of imports; whoever links a generation reads it and sees the old tuple or the new one, whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from epochal._core.use.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from epochal._core.use.gate import Gate
    from epochal._core.use.lease import Lease, RevocableLease

MARKS: Final = "__epochal_marks__"
"""The attribute in which markers leave their marks: a tuple of `Mark`."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")

F = TypeVar("F")

ExportKey: TypeAlias = "tuple[Kind[Any], str]"
"""The kind of an export and its full name, `plugin.name`."""


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


@dataclass(frozen=True, slots=True)
class Opened:
    """An export with what its kind opened for it, as the kind sees it in a hand-over.

    Attributes:
        export: the export.
        instance: what `Kind.open` returned.
        version: the version of the plugin.
        generation: the number of its generation.
    """

    export: Export
    instance: Any = field(repr=False)
    version: str
    generation: int


class Handover(Protocol):
    """One move of state from an old generation to the new one, as a kind does it.

    The change first closes the gates of all that it moves, together; then it calls `run`, of what
    is required before that of those who require it, then one of the others. Only `run` may call
    plugin code, take time or raise; it is under a time limit, and when that has passed `roll_back`
    is called from another thread while it may still be under way.
    """

    @property
    def gate(self) -> Gate | None:
        """What is closed meanwhile, so that callers wait; None where nobody has to."""
        ...

    def run(self) -> None:
        """Move the state; the old generation may have to go on with it, if the change goes back.

        Raises:
            ValueError, TypeError: the new one refuses it: the change is rolled back.
        """
        ...

    def commit(self, offered: Any) -> None:
        """The new epoch is current; `offered` is what it offers for this export."""
        ...

    def roll_back(self) -> None:
        """The change went back: the old one goes on."""
        ...


class Kind(Generic[F]):
    """The type of an export: marker, key into an epoch, rules for reload.

    Args:
        name: dotted lower-case name, which is also the capability that a plugin needs to export
            this kind (`scalar`, `agent.tool`).
        description: one line for people.
    """

    __slots__ = ("__weakref__", "description", "name")

    allow_duplicates: ClassVar[bool] = False
    """Whether one plugin may export several things of one name; those after the first get a number
    (`geo.told`, `geo.told_2`)."""

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

    def check_removed(self, old: Export) -> str | None:
        """Raise `ValueError`, with the reason, if a new version may not leave this export out.

        Called for each export of the old version whose name the new one has no export of this kind
        for. The plain kind accepts it; and removing the whole plugin asks nobody.

        Returns:
            What is dropped with it, for the report (`Swap.dropped`): "what it keeps", say.
        """
        return None

    def dependencies(self, export: Export) -> Iterable[tuple[Kind[Any], Any]]:
        """What else of its plugin an export names, which must be exported with it.

        Returns:
            For each such object, the kind that it must be exported as, and the object itself.
        """
        return ()

    def validate_together(self, exports: Sequence[Export]) -> None:
        """Raise `ValueError`, with the reason, if these cannot be active together.

        Called for each change that brings exports of this kind in, with all that would be active
        then. The plain kind accepts everything, and kinds that do not override this are not asked.
        """

    @property
    def has_global_rule(self) -> bool:
        """Whether it has a rule over all its exports."""
        return type(self).validate_together is not Kind[Any].validate_together

    @property
    def opens(self) -> bool:
        """Whether it opens its exports, rather than offering what the plugin marked."""
        return type(self).open is not Kind[Any].open

    def open(self, export: Export) -> Any:
        """Make what a generation serves this export with. The plain kind offers the target itself.

        Called once for each generation, after its `init`; may call plugin code and raise anything.
        """
        raise NotImplementedError

    def close(self, instance: Any) -> None:
        """End what `open` made, before the generation's `shutdown()`; nobody uses it any more."""

    def wrap(self, instance: Any, lease: Lease | RevocableLease) -> Any:
        """What an epoch offers for an instance: something that keeps the lease while it is used.

        Called before anybody can use the instance, and again for each plugin that requires this
        one. It must not block, and calls no plugin code. The plain kind offers a `Handle`.
        """
        return Handle(instance, lease)

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """How to move what `old` keeps to `new`, if there is anything to move.

        Called for each export that both versions have, after the new one's `init`. It only makes
        the `Handover`, and moves nothing yet.

        Raises:
            ValueError, TypeError: it cannot be moved now: the change is rolled back.
        """
        return None

    def __repr__(self) -> str:
        return f"<kind {self.name}>"


def marks_of(target: object, name: str = "") -> tuple[Mark, ...]:
    """The marks on an object itself (not those inherited from a base class).

    Args:
        target: the object.
        name: the name that it stands under, for the readers of other libraries' marks.
    """
    try:
        own = getattr(target, "__dict__", None)
        marks = own.get(MARKS, ()) if own is not None else ()
    except Exception:  # noqa: BLE001  a proxy for what is not there yet, say: it bears none
        return ()
    if not _readers:
        return tuple(marks)
    return (*marks, *(mark for read in _readers for mark in read(name, target)))


_readers: tuple[Callable[[str, object], Iterable[Mark]], ...] = ()


def read_marks(reader: Callable[[str, object], Iterable[Mark]]) -> None:
    """Have `reader(name, target)` asked for the marks that another library left on an object.

    It is asked of whatever stands in a plugin's modules, and of the methods of objects there, when
    a generation is linked. It must be quick, and call nothing of the object's.
    """
    global _readers
    _readers = (*_readers, reader)
