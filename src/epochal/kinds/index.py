"""Indexes: built from a table once, searched from SQL, moved to new code without building again.

::

    class Hit(NamedTuple):
        id: int
        score: float

    @index
    class articles:
        def build(self, rows): ...                     # an iterator of Arrow record batches: all
        def persist(self, folder): ...                 # write all that `open` needs; it is empty
        def open(self, folder): ...                    # raises ValueError for a format it cannot
        def search(self, words: str, limit: int = 10) -> list[Hit]: ...

    db.build_index("library.articles", "SELECT id, title, body FROM articles")
    SELECT a.title, h.score FROM library.articles('epoch') h JOIN articles a USING (id)

`search` is a table function: its annotations name its parameters and columns.

Each build fills a fresh object, is persisted, and then takes the place of the one before, which
serves until then. On reload the new code *opens* what is persisted; nothing is built again. If it
cannot, it raises, the change is rolled back, and the old one serves on. Searches never wait. A
change that comes while the index is being built is refused: what is half built cannot be moved.

An object is made when there is something to build or to open, and never before. A `close()`, if
there is one, is called once on each: when a later build has taken its place and its last search is
over, when its build failed, or at the end of the generation.

An operation that began before a reload searches the old generation's object, on the old code. What
is built later goes to the newest generation.

Who reads, who writes: ``built`` of a `IndexSlot` is replaced inside its gate (a build, an `open`)
or while that is closed (a hand-over), and read by searches without a lock: the old one or the new
one, whole. ``made`` has every object that is not closed yet; whoever takes one out closes it, one
step.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal._core.generation.kind import Export, Handover, Kind, Opened
from epochal._core.introspect.tracebacks import format_error
from epochal._core.use.lease import Lease
from epochal._core.use.lease_carrier import carry
from epochal.errors import EpochalError, FunctionError, HostError
from epochal.kinds.table_function import TableShape, table_data_types, table_shape
from epochal.kinds.toolkit.class_checks import check_class
from epochal.kinds.toolkit.cleanup import cleanup
from epochal.kinds.toolkit.gated_state import GatedState, GatedTransfer, StateRef
from epochal.kinds.toolkit.index_storage import Build, begin, find, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from epochal._core.use.lease import RevocableLease

_END: Final = object()
_METHODS: Final = {
    "build": ("rows",),
    "persist": ("folder",),
    "open": ("folder",),
    "search": None,
}


class SearchUse:
    """Stands for the use of one object: held while it serves, and by each search of it."""

    __slots__ = ("__weakref__",)


class Built(NamedTuple):
    """An index that can be searched.

    Attributes:
        target: the plugin's object.
        place: where it is persisted.
        use: whose end is the object's.
    """

    target: Any
    place: Build
    use: SearchUse


class IndexSlot(GatedState):
    """What is opened for one generation: the object that serves, and where it is persisted.

    Attributes:
        name: the index's full name.
        make: makes a fresh object.
        built: what is searched; None before it is built.
        building: held by whoever builds.
        made: the objects that are not closed yet, by the numbers of their uses.
    """

    __slots__ = ("building", "built", "lease", "made", "make", "name")

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        super().__init__(None)
        self.name: Final = name
        self.make: Final = make
        self.built: Built | None = None
        self.building = threading.Lock()
        self.made: Final[dict[int, Any]] = {}
        self.lease: weakref.ref[Lease | RevocableLease] = _no_lease

    def put(self, built: Built) -> None:
        """Have another object serve; the one before ends with its last search."""
        self.target = built.target
        self.built = built

    def fresh(self, fill: Callable[[Any], Build]) -> Built:
        """Make an object and fill it; it is ended if that fails.

        Args:
            fill: fills it, and returns where it is persisted.

        Raises:
            BaseException: whatever the plugin raises.
        """
        cleanup.prepare()
        use = SearchUse()
        watch = _Watch(use, _unused)
        watch.made, watch.number = self.made, next(_numbers)
        watch.lease, watch.name = self.lease, self.name
        self.made[watch.number] = target = self.make()
        _watches[watch.number] = watch
        try:
            return Built(target, fill(target), use)
        except BaseException:
            _unused(watch)  # now: the error may be kept, and its frames with it
            raise


_no_lease: Final[Any] = lambda: None  # noqa: E731  of a shelf that nobody was offered


class _Watch(weakref.ref[SearchUse]):
    """Waits for the end of an object's use; refers to its generation's lease weakly."""

    __slots__ = ("lease", "made", "name", "number")
    lease: weakref.ref[Lease | RevocableLease]
    made: dict[int, Any]
    name: str
    number: int


_numbers: Final = itertools.count()
"""Numbers objects over all indexes: its `next` is one step under the interpreter lock."""
_watches: Final[dict[int, _Watch]] = {}
# Added to by any thread, taken out of by `_unused`, anywhere: one step each.


def _unused(watch: _Watch) -> None:
    """An object is not used any more: have it closed. May be called by the collector."""
    if _watches.pop(watch.number, None) is None:
        return
    lease = watch.lease()
    if lease is not None:  # otherwise the generation's end closes it
        end = functools.partial(_close, watch.made, watch.number, lease)
        cleanup.schedule(f"index {watch.name}", end)


def _close(made: dict[int, Any], number: int, lease: Lease | RevocableLease | None) -> None:
    target = made.pop(number, None)
    close = getattr(target, "close", None)
    if callable(close):
        (close if lease is None else carry(close, lease))()


class IndexHandle:
    """What an epoch offers of an index."""

    def __init__(self, side: StateRef) -> None:
        self._ref: Final = side

    @property
    def is_built(self) -> bool:
        """Whether there is anything to search."""
        return _shelf(self._ref).built is not None

    @property
    def search(self) -> Callable[..., Any]:
        """The search of what is built now, by this epoch's code; it carries the lease.

        Raises:
            HostError: nothing is built yet.
        """
        shelf = _shelf(self._ref)
        built = shelf.built
        if built is None:
            raise HostError(
                f"index {shelf.name} is not built yet: build it with "
                f"Database.build_index({shelf.name!r}, 'SELECT …')"
            )
        search = functools.partial(carry(built.target.search, self._ref.lease))
        search.built = built  # type: ignore[attr-defined]  # its object and files stay that long
        return search

    def build(self, rows: Iterator[Any], *, folder: str | PathLike[str] | None = None) -> None:
        """Build it anew, persist it, and have it serve.

        Args:
            rows: Arrow record batches.
            folder: where it is kept, for this index alone; None for a place that goes with it.

        Raises:
            HostError: it is being built already, or the folder is another index's.
            FunctionError: the plugin failed; what it raised is the cause.
            OSError: it cannot be kept.
        """

        def build(shelf: IndexSlot, side: StateRef, target: Any) -> Build:
            place = begin(folder, shelf.name)
            with _told(shelf, side, "build"):
                carry(target.build, side.lease)(rows)
                if next(rows, _END) is not _END:
                    raise ValueError("it left rows unread")
            with _told(shelf, side, "persist"):
                carry(target.persist, side.lease)(place.path)
            publish(place, shelf.name)
            return place

        self._replace(build)

    def open(self, folder: str | PathLike[str]) -> None:
        """Open what was built into a folder before, in an earlier run say, and have it serve.

        Raises:
            HostError: no index was built into it, or this one is being built.
            FunctionError: the plugin cannot read it; what it raised is the cause.
        """

        def open_(shelf: IndexSlot, side: StateRef, target: Any) -> Build:
            place = find(folder)
            with _told(shelf, side, "open"):
                carry(target.open, side.lease)(place.path)
            return place

        self._replace(open_)

    def _replace(self, fill: Callable[[IndexSlot, StateRef, Any], Build]) -> None:
        with self._ref.inside() as side:
            shelf = _shelf(side)
            if not shelf.building.acquire(blocking=False):
                raise HostError(f"index {shelf.name} is being built already")
            try:
                shelf.put(shelf.fresh(functools.partial(fill, shelf, side)))
            finally:
                shelf.building.release()

    def __repr__(self) -> str:
        return f"<index {_shelf(self._ref).name}>"


def _shelf(side: StateRef) -> IndexSlot:
    shelf = side.state
    assert isinstance(shelf, IndexSlot)
    return shelf


@contextmanager
def _told(shelf: IndexSlot, side: StateRef, step: str) -> Iterator[None]:
    """Around a call of the plugin: what it raises is told with what it was asked for.

    An error of the rows is none of the plugin's.
    """
    try:
        yield
    except (EpochalError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lease = side.lease if isinstance(side.lease, Lease) else side.lease.lease
        who = "" if lease is None else f" (plugin {lease.label})"
        raise FunctionError(
            f"index {shelf.name}{who}: {step} raised {format_error(error)}", function=shelf.name
        ) from error


def _take_over(new: IndexSlot, built: Built | None) -> None:
    if built is None:
        return
    place = built.place if built.place.is_whole else _persisted_again(new.name, built)

    def open_(target: Any) -> Build:
        target.open(place.path)
        return place

    new.put(new.fresh(open_))


def _persisted_again(name: str, built: Built) -> Build:
    """Another place for what serves, of which somebody has removed files."""
    try:
        place = begin(built.place.home, name)
        built.target.persist(place.path)
        publish(place, name)
    except Exception as error:
        raise OSError(
            f"files are gone from {built.place.path}, where it was persisted, and it cannot be "
            f"persisted again ({format_error(error)}): build it again, with folder= where nobody "
            "cleans up"
        ) from error
    return place


class IndexKind(Kind[Any]):
    """The kind of indexes; its one instance is `epochal.kinds.index`."""

    __slots__ = ()

    def validate(self, export: Export) -> None:
        """Ask for a class with the four methods, and a search that SQL can call.

        Raises:
            TypeError: it is not; the message says all that is wrong.
        """
        check_class(export.target, _METHODS, plain=("build", "persist", "open"))
        self.shape(export)

    def dependencies(self, export: Export) -> Iterator[tuple[Kind[Any], Any]]:
        """The data types of its plugin that it names."""
        return table_data_types(export.target.search)

    def shape(self, export: Export) -> TableShape:
        """What its search is like, as a table function.

        Raises:
            TypeError: SQL cannot call it.
        """
        return table_shape(export.target.search, method=True)

    def open(self, export: Export) -> IndexSlot:
        """A place for an object; none is made yet."""
        return IndexSlot(export.name, export.target)

    def close(self, instance: IndexSlot) -> None:
        """Close every object that is not closed yet, and let go of what is persisted."""
        instance.built = instance.target = None
        errors: list[BaseException] = []
        for number in list(instance.made):
            try:
                _close(instance.made, number, None)
            except BaseException as error:  # noqa: BLE001  told below; the others are closed
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else BaseExceptionGroup("closing", errors)

    def wrap(self, instance: IndexSlot, lease: Lease | RevocableLease) -> IndexHandle:
        """Something to build and to search."""
        if instance.lease() is None:  # the first is the generation's own
            instance.lease = weakref.ref(lease)
        return IndexHandle(StateRef(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """Have the new one open what is persisted; at once refused while it is being built."""
        before, after = old.instance, new.instance
        if before.building.locked():
            raise ValueError("it is being built; change its plugin when that is done")
        return GatedTransfer(
            before, after, lambda: before.built, lambda built: _take_over(after, built)
        )


index: Final = IndexKind("index", "built from a table, searched from SQL")
