"""A kind: the type of an export.

A kind is three things at once: the marker that plugin authors put on a function, the key into an
epoch, and the rules for reload. Hosts define their own with the machinery that the built-in kinds
use::

    tool = Kind("agent.tool")              # in the host's module, which plugins import

    @tool                                  # in a plugin
    def search(query: str) -> list[str]: ...

    epoch[tool]["web.search"]("epochs")    # in the host

A type checker knows an export's signature where the kind states it:
``tool: Kind[Callable[[str], list[str]]] = Kind("agent.tool")``. Without it, exports are `Any`.

A kind that has rules overrides `options`, `validate`, `compare` and `check_removed`. All of them
run while a change is staged: an exception of any of them, of any type, rolls the change back with
an error that names the plugin, the kind and the export, and the plugins that serve are untouched.

A kind with exports that keep state overrides `open`. Its result is made once for each generation,
after the generation's `init`. The epoch offers it (in a `Handle`, whose methods carry the lease),
and `close` gets it when the generation goes. `hand_over` moves the state of the old instance to the
new one, in the instant before the new epoch is published.

A marker registers nothing: it leaves a `Mark` on the object and returns the object itself. The
runtime reads the marks when it links a generation, so importing a plugin's file by hand, as its own
tests do, has no effect beyond the plugin's own. `read_marks` adds readers for the markers of other
libraries.

A mark knows the module whose code made it. So an object of a library that the plugin decorated its
function with is the plugin's export, and a mark that no module's name leads to is found
(`marks_made_in`): a marked object is exported or refused, never skipped.

Which thread reads, which writes: ``_readers`` is an immutable tuple, replaced by `read_marks` as a
module is imported, under the lock of imports. A thread that links a generation sees the old tuple
or the new one, whole. ``_made`` holds each mark that is alive, weakly; any thread that applies a
marker adds to it, and the thread that removes a generation drops the entries of its modules.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeAlias, overload

from epochal._core.sync.weak_registry import WeakRegistry
from epochal._core.use.handle import Handle
from epochal.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType

    from typing_extensions import TypeVar

    from epochal._core.use.gate import Gate
    from epochal._core.use.lease import Lease, RevocableLease

    # With the default, `Kind("agent.tool")` is a `Kind[Any]`. `typing` has defaults from 3.13 on;
    # every type checker knows `typing_extensions`, and nothing imports it at run time.
    F = TypeVar("F", default=Any)
else:
    from typing import TypeVar

    F = TypeVar("F")

T = TypeVar("T")

MARKS: Final = "__epochal_marks__"
"""The attribute in which markers leave their marks: a tuple of `Mark`."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")

ExportKey: TypeAlias = "tuple[Kind[Any], str]"
"""The kind of an export and its full name, `plugin.name`."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Mark:
    """The order that a marker left on an object: "export this as a … named …".

    Attributes:
        kind: the kind of the export.
        name: its name within the plugin; None takes the object's `__name__`.
        options: the marker's options.
        origin: the `__name__` of the module whose code made the mark. Generations share a name,
            but not its string object. Empty for a mark that a reader found (see `read_marks`).
        target: the name of the object that it was put on, for messages.
    """

    kind: Kind[Any]
    name: str | None
    options: Mapping[str, Any]
    origin: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Export:
    """One thing that a generation offers, as its kind sees it while a change is staged.

    Attributes:
        kind: the kind it was marked with.
        name: its full name, `plugin.name`.
        plugin: id of the plugin that offers it.
        options: the marker's options, as `Kind.options` returned them.
        target: the plugin's own object. It carries no lease: look at it, do not keep it and do not
            call it. The objects to call are in the epoch.
    """

    kind: Kind[Any]
    name: str
    plugin: str
    options: Mapping[str, Any] = field(repr=False)
    target: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """An export with the instance that its kind opened for it, as the kind sees it in a hand-over.

    Attributes:
        export: the export.
        instance: the result of `Kind.open`.
        version: the version of the plugin.
        generation: the number of its generation.
    """

    export: Export
    instance: Any = field(repr=False)
    version: str
    generation: int


class Handover(Protocol):
    """One transfer of state from an old generation to the new one, as a kind does it.

    The change first closes the gates of all its transfers together. Then it calls `run` of each, a
    plugin's requirements before the plugin, and at last `commit` or `roll_back` of each. Only `run`
    may call plugin code, take time or raise. It is under a time limit: when that has passed,
    `roll_back` is called from another thread while `run` may still be under way.
    """

    @property
    def gate(self) -> Gate | None:
        """The gate to close meanwhile, so that callers wait; None if no caller has to wait."""
        ...

    def run(self) -> None:
        """Move the state. The old generation must be able to continue with it after a roll-back.

        Raises:
            ValueError, TypeError: the new generation refuses the state: the change is rolled back.
        """
        ...

    def commit(self, offered: Any) -> None:
        """The new epoch is current; `offered` is the object that it offers for this export."""
        ...

    def roll_back(self) -> None:
        """The change was rolled back: the old generation continues."""
        ...


class Kind(Generic[F]):
    """The type of an export: marker, key into an epoch, rules for reload.

    Args:
        name: dotted lower-case name, which is also the capability that a plugin needs to export
            this kind (`scalar`, `agent.tool`).
        description: one line, for people.
    """

    __slots__ = ("__weakref__", "_module", "description", "name")

    allow_duplicates: ClassVar[bool] = False
    """Whether one plugin may export several objects under one name; those after the first get a
    number (`geo.notify`, `geo.notify_2`)."""

    is_local: ClassVar[bool | None] = None
    """Whether its exports belong to one process, and other processes may not have copies of them;
    None where that is so because the kind opens them."""

    def __init__(self, name: str, description: str = "") -> None:
        # Of the module whose body makes it: a kind is pickled by module and name.
        self._module: Final = _module_at_work(inspect.currentframe())
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"kind name {name!r} is not valid: expected lower-case words joined by dots, "
                "such as 'scalar' or 'agent.tool'"
            )
        self.name: Final = name
        self.description: Final = description

    @overload
    def __call__(self, target: T, /) -> T: ...
    @overload
    def __call__(self, *, name: str | None = None, **options: Any) -> Callable[[T], T]: ...
    def __call__(  # type: ignore[misc]  # the two forms above are all that callers see
        self, target: T | None = None, /, *, name: str | None = None, **options: Any
    ) -> T | Callable[[T], T]:
        """Mark an object as an export of this kind: `@kind` or `@kind(name=…, option=…)`.

        To a type checker, the object keeps its own type. A kind with options states them to it in
        overloads of its own, as `epochal.kinds.job` does.

        Args:
            target: the function, class or callable to export.
            name: its name within the plugin; None takes the object's `__name__`.
            **options: the kind's own options; see `options`.

        Returns:
            The object itself, or a decorator that returns it.

        Raises:
            TypeError: an option that this kind does not know, or an object that cannot be marked.
        """
        checked = self.check_options(name, options)

        def apply(target: T) -> T:
            origin = _module_at_work(inspect.currentframe())
            label = getattr(target, "__qualname__", None) or getattr(target, "__name__", None)
            mark = Mark(self, name, checked, origin, str(label or target))
            try:
                # Own marks only: a subclass of a marked class is not itself exported.
                own = getattr(target, "__dict__", {}).get(MARKS, ())
                # A library's object outlives the plugins that mark it: without the marks of
                # modules that are gone or replaced.
                kept = (m for m in own if m.origin is origin or _is_another(m.origin, origin))
                setattr(target, MARKS, (*kept, mark))
            except (AttributeError, TypeError):
                hint = (
                    "it takes no attributes; "
                    f"export it with ctx.export({self.name}, …) in register(ctx)"
                )
                if isinstance(target, str):
                    hint = f"to give an export a name, write @{self.name}(name={target!r})"
                raise TypeError(f"{target!r} cannot be marked as {self.name}: {hint}") from None
            _made.setdefault(id(origin), WeakRegistry()).add(mark)
            return target

        return apply if target is None else apply(target)

    def options(self, **options: Any) -> Mapping[str, Any]:
        """Check the marker's options, fill in defaults, return them.

        The plain kind has none. Override with the keywords that your kind understands.

        Raises:
            TypeError: an option that this kind does not know.
        """
        if options:
            raise TypeError(f"{self.name} takes no options, but was given {sorted(options)}")
        return options

    def check_options(self, name: str | None, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options as `options` returns them, whatever it raises.

        Args:
            name: of the export, if the marker was given one.
            options: the marker's.

        Raises:
            TypeError: `options` refuses them, or fails.
            ValueError: it refuses them by one.
        """
        try:
            return MappingProxyType(dict(self.options(**options)))
        except BaseException as error:
            place = f"{self.name} {name!r}" if name is not None else self.name
            refusal = ValueError if isinstance(error, ValueError) else TypeError
            raise refusal(f"the options of @{place}: {reason_of(error)}") from error

    def validate(self, export: Export) -> None:
        """Raise `ValueError` or `TypeError`, with the reason, if this cannot be an export.

        The plain kind accepts everything that can be called.
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

        Called for each export of the old version that the new version lacks; not called when the
        whole plugin is removed. The plain kind accepts it.

        Returns:
            The state that is dropped with it, in words, for the report (`Swap.dropped`); None if
            there is none.
        """
        return None

    def dependencies(self, export: Export) -> Iterable[tuple[Kind[Any], Any]]:
        """The other objects of its plugin that an export names, which must be exported with it.

        Returns:
            For each such object, the kind that it must be exported as, and the object itself.
        """
        return ()

    def validate_together(self, exports: Sequence[Export]) -> None:
        """Raise `ValueError`, with the reason, if these cannot be active together.

        Called for each change that adds exports of this kind, with all exports that would then be
        active. The plain kind accepts everything; kinds that do not override this are not called.
        """

    @property
    def has_global_rule(self) -> bool:
        """Whether it has a rule over all its exports."""
        return type(self).validate_together is not _PLAIN["validate_together"]

    @property
    def needs_both(self) -> bool:
        """Whether a reload needs the old export and the new one side by side."""
        plain = Kind[Any]
        return self.opens or any(
            getattr(type(self), name) is not getattr(plain, name)
            for name in ("compare", "check_removed", "hand_over")
        )

    @property
    def opens(self) -> bool:
        """Whether it opens its exports, rather than offering the objects that the plugin marked."""
        return type(self).open is not _PLAIN["open"]

    @property
    def crosses(self) -> bool:
        """Whether other processes may have instances of its exports, built from the same code."""
        return not (self.opens if self.is_local is None else self.is_local)

    def __reduce__(self) -> Any:
        return kind_at, (self.address,)

    @property
    def address(self) -> str:
        """`module:NAME`, by which another process finds this kind.

        Raises:
            TypeError: no module has it under a name.
        """
        for name in dict.fromkeys((self._module, type(self).__module__)):
            module = sys.modules.get(name)
            for variable, value in list(vars(module).items()) if module is not None else ():
                if value is self:
                    return f"{name}:{variable}"
        raise TypeError(
            f"kind {self.name} cannot be sent to another process: it is found there by module and "
            "name, so it must be in a variable at the top level of a module"
        )

    def open(self, export: Export) -> Any:
        """Make the instance that serves this export. The plain kind offers the target itself.

        Called once for each generation, after its `init`; may call plugin code and raise anything.
        """
        raise NotImplementedError

    def close(self, instance: Any) -> None:
        """Close an instance, before the generation's `shutdown()`, when it is no longer in use."""

    def wrap(self, instance: Any, lease: Lease | RevocableLease) -> Any:
        """The object that an epoch offers for an instance; it must hold the lease while in use.

        Called before the instance can be used, and again for each plugin that requires this one.
        It must not block, and must not call plugin code. The plain kind offers a `Handle`.
        """
        return Handle(instance, lease)

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """The transfer of state from `old` to `new`; None if there is nothing to move.

        Called for each export that both versions have, after the new one's `init`. It only makes
        the `Handover`, and moves nothing yet.

        Raises:
            ValueError, TypeError: the state cannot be moved now: the change is rolled back.
        """
        return None

    def __repr__(self) -> str:
        return f"<kind {self.name}>"


def kind_at(address: str) -> Kind[Any]:
    """The kind that a module has under a name; see `Kind.address`."""
    module, _, name = address.partition(":")
    kind: Kind[Any] = getattr(import_module(module), name)
    return kind


_PLAIN: Final = vars(Kind)
"""The methods of a kind that overrides none. (`Kind[Any].open` takes 6 µs, for each export.)"""


def marks_of(target: object, name: str = "") -> tuple[Mark, ...]:
    """The marks on an object itself (not those inherited from a base class).

    Args:
        target: the object.
        name: the name that it is bound to, for the readers of other libraries' marks.
    """
    try:
        own = getattr(target, "__dict__", None)
        marks: tuple[Mark, ...] = own.get(MARKS, ()) if own is not None else ()
        if type(target) in (staticmethod, classmethod):  # their `__dict__` is not the function's
            marks = (*marks, *marks_of(getattr(target, "__func__", None)))
    except MemoryError:
        raise  # not skipped: it may be an export
    except Exception:  # noqa: BLE001  such as a proxy without its object: no marks
        return ()
    if not _readers:
        return tuple(marks)
    return (*marks, *(mark for read in _readers for mark in read(name, target)))


_made: Final[dict[int, WeakRegistry[Mark]]] = {}
"""The marks that markers made, for as long as an object has them, by the `id` of the `__name__` of
the module whose code made them: a mark keeps that object, so no other has its `id`."""


def marks_made_in(name: object) -> list[Mark]:
    """The marks that the code of a module made, by the very object that is its `__name__`."""
    made = _made.get(id(name))
    return made.live() if made is not None else []


def forget_marks_of(name: object) -> None:
    """Drop the entry of a module whose generation is removed."""
    _made.pop(id(name), None)


def _module_at_work(frame: FrameType | None) -> str:
    """The name of the module whose body runs in a frame's caller or below it; else the caller's.

    A decorator of a library may apply a marker; the module that is decorated has the mark made.
    """
    assert frame is not None
    caller = frame = frame.f_back
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    at_work = frame or caller
    name = "" if at_work is None else at_work.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


def _is_another(origin: str, than: str) -> bool:
    """Whether a module of another name is still there."""
    return origin != than and origin in sys.modules


_readers: tuple[Callable[[str, object], Iterable[Mark]], ...] = ()


def read_marks(reader: Callable[[str, object], Iterable[Mark]]) -> None:
    """Add `reader(name, target)`, which returns the marks that another library left on an object.

    Linking a generation calls it for every object in the plugin's modules, and for the methods of
    objects there. It must be quick, and must not call the object.
    """
    global _readers
    _readers = (*_readers, reader)
