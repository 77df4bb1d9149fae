"""Indexes: built from a table once, searched from SQL, moved to new code without a new build.

::

    class Hit(NamedTuple):
        id: int
        score: float

    @index
    class articles:
        def build(self, rows): ...                     # read every Arrow record batch in `rows`
        def persist(self, folder): ...                 # write all that `open` needs; it is empty
        def open(self, folder): ...                    # raise ValueError for an unknown format
        def search(self, words: str, limit: int = 10) -> list[Hit]: ...

    db.build_index("library.articles", "SELECT id, title, body FROM articles")
    SELECT a.title, h.score FROM library.articles('epoch') h JOIN articles a USING (id)

`search` is a table function: its annotations name its parameters and columns.

Each build fills a fresh object, is persisted, and then replaces the previous build, which serves
until then. On reload the new code *opens* the persisted build; nothing is built again. If it cannot
open it, it raises, the change is rolled back, and the old object serves on. Searches never wait. A
change during a build is refused: a half-built index cannot be moved.

An object is made when there is something to build or to open, and never before. Its `close()`, if
it has one, is called once: after its last search when a later build has replaced it, when its build
failed, or at the end of the generation.

An operation that began before a reload searches the old generation's object, on the old code. Later
builds go to the newest generation.

Threads
-------

``built`` of an `IndexSlot` is replaced inside the gate (by a build or an `open`) or while the gate
is closed (by a hand-over). Searches read it without a lock, and get the old build or the new one,
whole.

A search keeps its `Built` record alive, and with it the record's `SearchUse`. When the last
reference to that goes, in any thread or in the collector, its finalizer schedules the object's
close. ``unclosed`` of a slot has every object that is not closed yet; a thread that closes one
first takes it out, by one `dict.pop`, so no object is closed twice.
"""

from __future__ import annotations

import functools
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal._core.generation.kind import Export, Handover, Kind, Opened
from epochal._core.use.lease import Lease, carry
from epochal.errors import EpochalError, FunctionError, HostError, format_error
from epochal.kinds.table_function import TableShape, table_data_types, table_shape
from epochal.kinds.toolkit.class_checks import check_class
from epochal.kinds.toolkit.cleanup import cleanup
from epochal.kinds.toolkit.gated_state import GatedState, GatedTransfer, StateRef
from epochal.kinds.toolkit.index_storage import Build, begin, find, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from epochal._core.use.lease import RevocableLease
    from epochal.kinds.marker_types import ClassMarker

_END: Final = object()
_METHODS: Final = {
    "build": ("rows",),
    "persist": ("folder",),
    "open": ("folder",),
    "search": None,
}


class SearchUse:
    """A token for the use of one object: kept while the object serves, and by each search of it."""

    __slots__ = ("__weakref__",)


class Built(NamedTuple):
    """An index that can be searched.

    Attributes:
        target: the plugin's object.
        place: the folder where it is persisted.
        use: when this token dies, the object is closed.
    """

    target: Any
    place: Build
    use: SearchUse


class IndexSlot(GatedState):
    """One generation's place for an index: the object that serves, and its persisted build.

    Attributes:
        name: the index's full name.
        make: makes a fresh object.
        built: the build that searches use; None before the first.
        building: held by the thread that builds.
        unclosed: the objects that are not closed yet, by keys of their own.
        lease: the generation's lease; refers to None until a handle is offered.
    """

    __slots__ = ("building", "built", "lease", "make", "name", "unclosed")

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        super().__init__(None)
        self.name: Final = name
        self.make: Final = make
        self.built: Built | None = None
        self.building = threading.Lock()
        self.unclosed: Final[dict[object, Any]] = {}
        self.lease: weakref.ref[Lease | RevocableLease] = _no_lease

    def replace(self, fill: Callable[[Any], Build]) -> None:
        """Make an object, fill it, and let it serve; the one before is closed after its searches.

        Args:
            fill: fills the object, and returns the folder where it is persisted.

        Raises:
            BaseException: any error of the plugin; the object is closed, the one before serves on.
        """
        cleanup.prepare()  # here, since no thread can be started where `_close_later` runs
        use, key = SearchUse(), object()
        self.unclosed[key] = target = self.make()
        end = weakref.finalize(use, _close_later, self.name, self.unclosed, key, self.lease)
        end.atexit = False  # only `Runtime.close` closes objects at exit
        try:
            built = Built(target, fill(target), use)
        except BaseException:
            end()  # not by the end of `use`: a caller may keep the error, and with it this frame
            raise
        self.target, self.built = target, built


_no_lease: Final[Any] = lambda: None  # noqa: E731  a dead weak reference


def _close_later(
    name: str,
    unclosed: dict[object, Any],
    key: object,
    generation_lease: weakref.ref[Lease | RevocableLease],
) -> None:
    """Schedule the close of an object that is not used any more.

    The collector may call this, so it only does what is re-entrant: no lock, no plugin code. It
    refers to the lease weakly: an object that serves must not keep its generation in use.
    """
    lease = generation_lease()
    if lease is not None:  # a dead lease: the generation's end closes the object
        cleanup.schedule(f"index {name}", functools.partial(_close, unclosed, key, lease))


def _close(unclosed: dict[object, Any], key: object, lease: Lease | RevocableLease | None) -> None:
    target = unclosed.pop(key, None)
    close = getattr(target, "close", None)
    if callable(close):
        (close if lease is None else carry(close, lease))()


class IndexHandle:
    """The handle that an epoch offers for an index."""

    def __init__(self, ref: StateRef) -> None:
        self._ref: Final = ref

    @property
    def is_built(self) -> bool:
        """Whether there is a build to search."""
        return _slot(self._ref).built is not None

    @property
    def search(self) -> Callable[..., Any]:
        """The search of the current build, by this epoch's code; it carries the lease.

        Raises:
            HostError: nothing is built yet.
        """
        slot = _slot(self._ref)
        built = slot.built
        if built is None:
            raise HostError(
                f"index {slot.name} is not built yet: build it with "
                f"Database.build_index({slot.name!r}, 'SELECT …')"
            )
        search = functools.partial(carry(built.target.search, self._ref.lease))
        # Keeps the object open and its files on the disk for as long as the search may be called.
        search.built = built  # type: ignore[attr-defined]
        return search

    def build(self, rows: Iterator[Any], *, folder: str | PathLike[str] | None = None) -> None:
        """Build the index anew, persist it, and let it serve.

        Args:
            rows: Arrow record batches.
            folder: the folder to persist it in, for this index alone; None for a temporary one.

        Raises:
            HostError: the index is being built already, or the folder is another index's.
            FunctionError: the plugin failed; its error is the cause.
            OSError: the build cannot be stored.
        """

        def build(slot: IndexSlot, ref: StateRef, target: Any) -> Build:
            place = begin(folder, slot.name)
            with _plugin_errors(slot, ref, "build"):
                carry(target.build, ref.lease)(rows)
                if next(rows, _END) is not _END:
                    raise ValueError("it left rows unread")
            with _plugin_errors(slot, ref, "persist"):
                carry(target.persist, ref.lease)(place.path)
            publish(place, slot.name)
            return place

        self._replace(build)

    def open(self, folder: str | PathLike[str]) -> None:
        """Open an index that was built into a folder before, for example in an earlier run.

        Raises:
            HostError: no index was built into it, or this one is being built.
            FunctionError: the plugin cannot read it; its error is the cause.
        """

        def open_(slot: IndexSlot, ref: StateRef, target: Any) -> Build:
            place = find(folder)
            with _plugin_errors(slot, ref, "open"):
                carry(target.open, ref.lease)(place.path)
            return place

        self._replace(open_)

    def _replace(self, fill: Callable[[IndexSlot, StateRef, Any], Build]) -> None:
        with self._ref.inside() as ref:
            slot = _slot(ref)
            if not slot.building.acquire(blocking=False):
                raise HostError(f"index {slot.name} is being built already")
            try:
                slot.replace(functools.partial(fill, slot, ref))
            finally:
                slot.building.release()

    def __repr__(self) -> str:
        return f"<index {_slot(self._ref).name}>"


def _slot(ref: StateRef) -> IndexSlot:
    slot = ref.state
    assert isinstance(slot, IndexSlot)
    return slot


@contextmanager
def _plugin_errors(slot: IndexSlot, ref: StateRef, step: str) -> Iterator[None]:
    """Turn an error of the plugin into a `FunctionError` that names the index and the step.

    An `EpochalError` comes from the rows, not from the plugin, and passes unchanged.
    """
    try:
        yield
    except (EpochalError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lease = ref.lease if isinstance(ref.lease, Lease) else ref.lease.lease
        plugin = "" if lease is None else f" (plugin {lease.label})"
        raise FunctionError(
            f"index {slot.name}{plugin}: {step} raised {format_error(error)}", function=slot.name
        ) from error


def _take_over(new: IndexSlot, built: Built | None) -> None:
    if built is None:
        return
    place = built.place if built.place.is_whole else _persist_again(new.name, built)

    def open_(target: Any) -> Build:
        target.open(place.path)
        return place

    new.replace(open_)


def _persist_again(name: str, built: Built) -> Build:
    """Persist the object that serves into another folder: files of its own were removed."""
    try:
        place = begin(built.place.home, name)
        built.target.persist(place.path)
        publish(place, name)
    except Exception as error:
        raise OSError(
            f"files are gone from {built.place.path}, where it was persisted, and it cannot be "
            f"persisted again ({format_error(error)}): build it again, with folder= in a place "
            "that is not cleaned up"
        ) from error
    return place


class IndexKind(Kind[Any]):
    """The kind of indexes; its one instance is `epochal.kinds.index`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: ClassMarker  # type: ignore[assignment]  # overloads

    def validate(self, export: Export) -> None:
        """Require a class with the four methods, and a search that SQL can call.

        Raises:
            TypeError: the class does not meet this; the message names every fault.
        """
        check_class(export.target, _METHODS, plain=("build", "persist", "open"))
        self.shape(export)

    def dependencies(self, export: Export) -> Iterator[tuple[Kind[Any], Any]]:
        """Return the plugin's own data types that the search's annotations name."""
        return table_data_types(export.target.search)

    def shape(self, export: Export) -> TableShape:
        """Return the SQL types of its search, as a table function.

        Raises:
            TypeError: SQL cannot call it.
        """
        return table_shape(export.target.search, method=True)

    def open(self, export: Export) -> IndexSlot:
        """Return an empty slot; no object is made yet."""
        return IndexSlot(export.name, export.target)

    def close(self, instance: IndexSlot) -> None:
        """Close every object that is not closed yet, and drop the persisted build."""
        instance.built = instance.target = None
        errors: list[BaseException] = []
        for key in list(instance.unclosed):
            try:
                _close(instance.unclosed, key, None)
            except BaseException as error:  # noqa: BLE001  raised below; the others are closed
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else BaseExceptionGroup("closing", errors)

    def wrap(self, instance: IndexSlot, lease: Lease | RevocableLease) -> IndexHandle:
        """Return a handle to build and to search."""
        if instance.lease() is None:  # the first lease is the generation's own
            instance.lease = weakref.ref(lease)
        return IndexHandle(StateRef(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """Return the move, in which the new object opens the persisted build.

        Raises:
            ValueError: the index is being built.
        """
        before, after = old.instance, new.instance
        if before.building.locked():
            raise ValueError("it is being built; change its plugin when that is done")
        return GatedTransfer(
            before, after, lambda: before.built, lambda built: _take_over(after, built)
        )


index: Final = IndexKind("index", "built from a table, searched from SQL")
