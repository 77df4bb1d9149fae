"""An epoch: an immutable snapshot of all active generations and their exports.

Reading `runtime.epoch` once pins every plugin: the snapshot holds the leases of its generations,
and each export that is taken out of it carries its own. An operation that looks everything up in
one epoch sees one consistent set of versions, however many changes are published meanwhile.

An epoch is a dictionary to the interpreter and its tables are `types.MappingProxyType`: both are
looked up by C code, where a class with its own `__getitem__` costs twice as much. Both are
read-only.

Which thread reads, which writes
--------------------------------

One change builds an epoch, alone, and nothing alters it once it is published, so its readers need
no lock. The exception is ``_derived``, a memo for hosts: written with `dict.setdefault`, one step,
so that of two threads that build the same value one wins and both get the winner's value.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar

from epochal._core.generation.ambient import Ambient
from epochal._core.generation.generation import LeasedGeneration
from epochal._core.generation.kind import Kind
from epochal._core.plugin.candidate import epoch_id
from epochal._core.sync.fifo_lock import FifoLock
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import NoShareError, UnknownExportError, UnknownPluginError
from epochal.events import EventStream, StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from epochal._core.generation.generation import Generation, Loader
    from epochal._core.generation.kind import Export
    from epochal._core.generation.operation import Operation
    from epochal._core.generation.states import LifecycleState
    from epochal._core.use.lease import Lease

    F = TypeVar("F")

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


_NO_EXPORTS: Final[Mapping[str, Any]] = MappingProxyType({})


class _Frozen(dict[K, V]):
    """A dictionary that refuses every change after it was built."""

    __slots__ = ()

    def _refuse(self, *args: object, **kw: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is read-only: change plugins through the runtime")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = _refuse
    setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]  refuses any arguments

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds live code; it cannot be copied or pickled")


class RemoteTables(Protocol):
    """The exports of an epoch that other processes may call."""

    def __call__(self, *, local: bool = False) -> RemoteTables:
        """The same, where `local` lets plugins cross that have exports of one process.

        Args:
            local: each process gets an instance of its own of their services, indexes and so on.
        """
        ...

    def __getitem__(self, kind: Kind[F]) -> Mapping[str, F]: ...


class EpochSource(Protocol):
    """Where other processes get the epochs of a runtime from."""

    def tables(self, epoch: Epoch) -> RemoteTables:
        """The exports of an epoch, to be sent."""
        ...

    def reduce(self, epoch: Epoch) -> tuple[Callable[..., Epoch], tuple[Any, ...]]:
        """How an epoch is pickled."""
        ...


class Epoch(_Frozen["Kind[Any]", "Mapping[str, Any]"]):
    """An immutable snapshot of all active generations and their exports.

    `epoch[kind]` is a mapping from full name to export; `epoch[scalar]["geo.distance"](…)` calls
    it. A kind without exports is an empty mapping. While you hold an epoch, none of its generations
    is shut down; for long work, take the exports that you need and drop the epoch.

    Attributes:
        number: counts up with every published change of a runtime.
        generations: plugin id -> its active generation, in the order in which the plugins came in:
            a plugin that is reloaded keeps its place.
        since: plugin id -> the number of the epoch in which the plugin first appeared.
    """

    __slots__ = (
        "__weakref__",
        "_derived",
        "_id",
        "_leases",
        "_requiring",
        "_source",
        "generations",
        "number",
        "since",
    )

    if TYPE_CHECKING:

        def __getitem__(self, kind: Kind[F]) -> Mapping[str, F]: ...

    def __init__(self, number: int = 0, source: EpochSource | None = None) -> None:
        dict.__init__(self)
        self._source = source
        self.number = number
        self.generations: Mapping[str, Generation] = MappingProxyType({})
        self.since: Mapping[str, int] = MappingProxyType({})
        self._leases: dict[str, Lease] = {}
        self._requiring: dict[str, frozenset[str]] = {}
        self._derived: dict[Hashable, Any] = {}
        self._id: str | None = None

    # Two epochs are the same only if they are one object: hosts key their caches by them.
    __hash__ = object.__hash__  # type: ignore[assignment]  # dict has none
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    def __missing__(self, kind: Kind[Any]) -> Mapping[str, Any]:
        if not isinstance(kind, Kind):
            raise TypeError(self._what_a_key_is(kind))
        return _NO_EXPORTS

    def _what_a_key_is(self, given: object) -> str:
        """What to write instead of a key that is not a kind, with the export that it may mean."""
        exports = [(kind.name, name) for kind, names in self.items() for name in names]
        meant = next((each for each in exports if given in each), ("kind", "plugin.name"))
        return (
            f"an epoch's key is a kind, such as `scalar` of `epochal.kinds`, not {given!r}: "
            f'epoch[{meant[0]}]["{meant[1]}"]'
        )

    @property
    def id(self) -> str:
        """SHA-256 over every plugin's identity: digest of its code, configuration, grants.

        Two runtimes with the same epoch id run the same code.
        """
        if self._id is None:
            self._id = epoch_id({p: g.identity for p, g in self.generations.items()})
        return self._id

    def export(self, kind: Kind[Any], name: str) -> Export:
        """An export's record: its options, and the plugin's own object behind it.

        Raises:
            UnknownExportError: this epoch has no such export.
        """
        generation = self.generations.get(name.partition(".")[0])
        export = generation.exports.get((kind, name)) if generation is not None else None
        if export is None:
            raise UnknownExportError(kind.name, name, get_close_matches(name, self[kind]))
        return export

    def find(self, kind: Kind[Any], name: str) -> Any:
        """An export as this epoch offers it, by its kind and full name.

        Raises:
            UnknownExportError: this epoch has no such export.
        """
        export = self[kind].get(name)
        if export is None:
            self.export(kind, name)  # raises: it names those that there are
        return export

    def generation(self, plugin: str) -> Generation:
        """The active generation of a plugin.

        Raises:
            UnknownPluginError: the plugin is not active in this epoch.
        """
        try:
            return self.generations[plugin]
        except KeyError:
            raise UnknownPluginError(plugin, sorted(self.generations)) from None

    def requiring(self, plugin: str) -> frozenset[str]:
        """The active plugins that require this one."""
        return self._requiring.get(plugin, frozenset())

    def lease(self, plugin: str) -> Lease:
        """The lease of a plugin's generation: hold it, not the epoch, if you need only that one.

        Raises:
            UnknownPluginError: the plugin is not active in this epoch.
        """
        self.generation(plugin)
        return self._leases[plugin]

    def linked(self, plugin: str) -> LeasedGeneration:
        """A plugin's generation together with its lease.

        Raises:
            UnknownPluginError: the plugin is not active in this epoch.
        """
        return LeasedGeneration(self.generation(plugin), self.lease(plugin), MappingProxyType({}))

    def pins(self, plugins: Iterable[str]) -> tuple[Lease, ...]:
        """The leases of several plugins' generations."""
        return tuple(self.lease(plugin) for plugin in plugins)

    def holds(self, lease: Lease, plugin: str) -> bool:
        """Whether this epoch pins the generation of a plugin that has this lease."""
        return self._leases.get(plugin) is lease

    def derived(self, key: Hashable, build: Callable[[Epoch], T]) -> T:
        """A value that a host computes once for each epoch, such as a planning context or a router.

        Args:
            key: the owner of the value, usually the host object.
            build: makes the value from this epoch, on the first call. Two threads that call at once
                may both build; one result is kept. The result must not refer to the epoch: a cycle
                would hold every lease until the collector runs (through native code, for ever).

        Returns:
            The value, which lives as long as this epoch.
        """
        try:
            value: T = self._derived[key]
        except KeyError:
            value = self._derived.setdefault(key, build(self))
        return value

    def bare(self, number: int | None = None) -> Epoch:
        """An epoch of the same runtime without plugins, from which a stage or a restart starts.

        Args:
            number: its number; None for this one's.
        """
        return Epoch(self.number if number is None else number, self._source)

    def stand_for(self, epoch: str) -> None:
        """Be known by the id of the epoch that this process has a part of; before it is used."""
        self._id = epoch

    def document(self) -> str:
        """This epoch as text, from which another process can build it, given the plugins' bytes.

        Returns:
            A JSON object, in a form of its own version (`epochal.artifact.read_document` reads it);
            of two epochs with equal ids the texts are equal.
        """
        from epochal._core.plugin.document import write_document

        needs = {plugin: g.local_exports() for plugin, g in self.generations.items()}
        candidates = [generation.candidate for generation in self.generations.values()]
        return write_document(self.id, candidates, needs)

    @property
    def remote(self) -> RemoteTables:
        """The exports as small objects that can be sent to other processes, and called there.

        `epoch.remote[kind]["plugin.name"]` pickles to about two hundred bytes, and is built from
        the runtime's share on its first call in whatever process: the code of this very epoch.
        A stage's epoch is written into the share here, when it is first asked.

        Raises:
            NoShareError: the runtime has no share.
            ShareError: a stage's epoch cannot be written.
        """
        if self._source is None:
            raise NoShareError
        return self._source.tables(self)

    def __reduce__(self) -> Any:
        if self._source is None:
            return super().__reduce__()
        return self._source.reduce(self)

    def successor(
        self,
        retired: Iterable[Generation],
        staged: Iterable[LeasedGeneration],
        *,
        number: int | None = None,
    ) -> Epoch:
        """The next epoch: this one without some generations and with others.

        Tables of kinds that neither side touches are shared between the two.

        Args:
            retired: the generations that it lacks.
            staged: the generations that it has instead.
            number: its number; None for the next one.
        """
        nxt = Epoch(self.number + 1 if number is None else number, self._source)
        dict.update(nxt, self)
        generations, leases = dict(self.generations), dict(self._leases)
        requiring, since = dict(self._requiring), dict(self.since)
        fresh: dict[Kind[Any], dict[str, Any]] = {}

        def table(kind: Kind[Any]) -> dict[str, Any]:
            if kind not in fresh:
                # The proxy's own copy is one block copy of the dictionary behind it.
                fresh[kind] = self[kind].copy()  # type: ignore[attr-defined]  # a MappingProxyType
            return fresh[kind]

        added = list(staged)
        replaced = {new.generation.plugin for new in added}
        for old in retired:
            if old.plugin not in replaced:  # a replaced plugin keeps its place in the order
                del generations[old.plugin], leases[old.plugin], since[old.plugin]
            for kind, name in old.exports:
                del table(kind)[name]
            for required in old.requires:
                requiring[required] = requiring[required] - {old.plugin}
        for new in added:
            plugin = new.generation.plugin
            generations[plugin], leases[plugin] = new.generation, new.lease
            since.setdefault(plugin, nxt.number)
            for (kind, name), value in new.carried.items():
                table(kind)[name] = value
            for required in new.generation.requires:
                requiring[required] = requiring.get(required, frozenset()) | {plugin}
        for kind, exports in fresh.items():
            dict.__setitem__(nxt, kind, MappingProxyType(exports))
        nxt.generations, nxt.since = MappingProxyType(generations), MappingProxyType(since)
        nxt._leases, nxt._requiring = leases, requiring
        return nxt

    def __epochal_pin__(self) -> str:
        """This epoch in words, for a list of holders (`epochal._core.use.holders.PIN`)."""
        return f"epoch {self.number}"

    def __repr__(self) -> str:
        return f"<epoch {self.number}: {len(self.generations)} plugins>"


class EpochReader:
    """Has the current epoch as an attribute; `Runtime` is one.

    Attributes:
        epoch: the current epoch. Reading it pins it; read it once for each unit of work.
    """

    if TYPE_CHECKING:

        @property
        def epoch(self) -> Epoch:
            """The current epoch."""
            ...


class EpochStore:
    """The state that the changes of one runtime share: the current epoch and the registries.

    Which thread reads, which writes: the current epoch is an attribute of ``reader``. Every thread
    reads it without a lock, and the change that has the turn stores it. ``_numbers`` belongs to
    that change. The registries hold their members weakly, and any thread may add to them.

    Args:
        reader: gets the current epoch as its attribute.
        loaders: by the language of the code (`Artifact.language`).
        source: where other processes get the epochs from, if they can.

    Attributes:
        ambient: finds the operation that the running code belongs to.
        turn: changes run one after another; the first ticket has the turn.
        events: receives what happens.
        operations: the labelled operations that run.
        generations: every generation that is still referred to.
        loaders: by the language of the code.
    """

    __slots__ = (
        "_numbers",
        "_reader",
        "ambient",
        "events",
        "generations",
        "loaders",
        "operations",
        "turn",
    )

    def __init__(
        self,
        reader: EpochReader,
        loaders: Mapping[str, Loader],
        source: EpochSource | None = None,
    ) -> None:
        self._reader: Final = reader
        self._numbers: Final[defaultdict[str, itertools.count[int]]] = defaultdict(itertools.count)
        self.ambient: Final[Ambient[Operation]] = Ambient()
        self.turn: Final = FifoLock()
        self.events: Final = EventStream()
        self.operations: Final[WeakRegistry[Operation]] = WeakRegistry()
        self.generations: Final[WeakRegistry[Generation]] = WeakRegistry()
        self.loaders: Final = loaders
        self.publish(Epoch(0, source))

    @property
    def current(self) -> Epoch:
        """The current epoch."""
        return self._reader.epoch

    def publish(self, epoch: Epoch) -> None:
        """Make an epoch the current one: one store, which cannot fail."""
        # Not through `__dict__`: a plain attribute is read by its offset (3 ns instead of 12).
        self._reader.epoch = epoch  # type: ignore[misc]  # read-only for all other code

    def next_number(self, plugin: str) -> int:
        """The number of a plugin's next generation; called in turn."""
        return next(self._numbers[plugin])

    def continue_numbers(self, numbers: Mapping[str, int]) -> None:
        """Go on counting each plugin's generations from a number."""
        self._numbers.update((plugin, itertools.count(n)) for plugin, n in numbers.items())

    def announce(self, generation: Generation, old: LifecycleState, new: LifecycleState) -> None:
        """Emit that a generation moved."""
        self.events.emit(
            StateChanged(plugin=generation.plugin, generation=generation.number, old=old, new=new)
        )
