"""Indexes: built from a table once, searched from SQL, moved to new code without building again.

::

    class Hit(NamedTuple):
        id: int
        score: float

    @index
    class articles:
        def build(self, rows): ...                     # an iterator of Arrow record batches
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

A `close()`, if there is one, is called at the end of the generation, on the object that serves
then; one that a later build has taken the place of just goes with its last search.

An operation that began before a reload searches the old generation's object, on the old code. What
is built later goes to the newest generation.

Who reads, who writes: ``built`` of a `Shelf` is replaced inside its gate (a build, an `open`) or
while that is closed (a hand-over), and read by searches without a lock: the old one or the new one,
whole.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal._core.carry import carry
from epochal._core.kind import Export, Handover, Kind, Opened
from epochal.errors import HostError
from epochal.kinds.builds import Build, begin, find, publish
from epochal.kinds.classes import check_class, close_object
from epochal.kinds.gate import GatedMove, Kept, Side
from epochal.kinds.table_function import TableShape, table_data_types, table_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from epochal._core.lease import Borrow, Lease

_METHODS: Final = {
    "build": ("rows",),
    "persist": ("folder",),
    "open": ("folder",),
    "search": None,
}


class Built(NamedTuple):
    """An index that can be searched.

    Attributes:
        target: the plugin's object.
        place: where it is persisted.
    """

    target: Any
    place: Build


class Shelf(Kept):
    """What is opened for one generation: the object that serves, and where it is persisted.

    Attributes:
        name: the index's full name.
        make: makes a fresh object.
        built: what is searched; None before it is built.
        building: held by whoever builds.
    """

    __slots__ = ("building", "built", "make", "name")

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        super().__init__(make())
        self.name: Final = name
        self.make: Final = make
        self.built: Built | None = None
        self.building = threading.Lock()

    def put(self, built: Built) -> None:
        """Have another object serve; the one before ends with its last search."""
        self.target = built.target
        self.built = built


class IndexHandle:
    """What an epoch offers of an index."""

    def __init__(self, side: Side) -> None:
        self._side: Final = side

    @property
    def is_built(self) -> bool:
        """Whether there is anything to search."""
        return _shelf(self._side).built is not None

    @property
    def search(self) -> Callable[..., Any]:
        """The search of what is built now, by this epoch's code; it carries the lease.

        Raises:
            HostError: nothing is built yet.
        """
        shelf = _shelf(self._side)
        built = shelf.built
        if built is None:
            raise HostError(
                f"index {shelf.name} is not built yet: build it with "
                f"Database.build_index({shelf.name!r}, 'SELECT …')"
            )
        search = functools.partial(carry(built.target.search, self._side.lease))
        search.place = built.place  # type: ignore[attr-defined]  # its files stay that long
        return search

    def build(self, rows: Iterator[Any], *, folder: str | PathLike[str] | None = None) -> None:
        """Build it anew, persist it, and have it serve.

        Args:
            rows: Arrow record batches.
            folder: where it is kept, for this index alone; None for a place that goes with it.

        Raises:
            HostError: it is being built already, or the folder is another index's.
            OSError: it cannot be kept.
        """

        def build(shelf: Shelf, side: Side) -> Built:
            place = begin(folder, shelf.name)
            fresh = shelf.make()
            carry(fresh.build, side.lease)(rows)
            carry(fresh.persist, side.lease)(place.path)
            publish(place, shelf.name)
            return Built(fresh, place)

        self._replace(build)

    def open(self, folder: str | PathLike[str]) -> None:
        """Open what was built into a folder before, in an earlier run say, and have it serve.

        Raises:
            HostError: no index was built into it, or this one is being built.
            ValueError: the plugin cannot read it.
        """

        def open_(shelf: Shelf, side: Side) -> Built:
            fresh, place = shelf.make(), find(folder)
            carry(fresh.open, side.lease)(place.path)
            return Built(fresh, place)

        self._replace(open_)

    def _replace(self, make: Callable[[Shelf, Side], Built]) -> None:
        gate = self._side.kept.gate
        visit = gate.enter()
        try:
            side = self._side.newest()
            shelf = _shelf(side)
            if not shelf.building.acquire(blocking=False):
                raise HostError(f"index {shelf.name} is being built already")
            try:
                shelf.put(make(shelf, side))
            finally:
                shelf.building.release()
        finally:
            gate.leave(visit)

    def __repr__(self) -> str:
        return f"<index {_shelf(self._side).name}>"


def _shelf(side: Side) -> Shelf:
    shelf = side.kept
    assert isinstance(shelf, Shelf)
    return shelf


def _take_over(new: Shelf, built: Built | None) -> None:
    if built is not None:
        new.target.open(built.place.path)
        new.put(Built(new.target, built.place))


class Index(Kind[Any]):
    """The kind of indexes; its one instance is `epochal.kinds.index`."""

    __slots__ = ()

    def validate(self, export: Export) -> None:
        """Ask for a class with the four methods, and a search that SQL can call.

        Raises:
            TypeError: it is not; the message says all that is wrong.
        """
        check_class(export.target, _METHODS)
        self.shape(export)

    def relies_on(self, export: Export) -> Iterator[tuple[Kind[Any], Any]]:
        """The data types of its plugin that it names."""
        return table_data_types(export.target.search)

    def shape(self, export: Export) -> TableShape:
        """What its search is like, as a table function.

        Raises:
            TypeError: SQL cannot call it.
        """
        return table_shape(export.target.search, method=True)

    def open(self, export: Export) -> Shelf:
        """Make an object, which is empty."""
        return Shelf(export.name, export.target)

    def close(self, instance: Shelf) -> None:
        """Call its `close()`, if it has one, and let go of what is persisted."""
        instance.built = None
        close_object(instance.target)

    def offer(self, instance: Shelf, lease: Lease | Borrow) -> IndexHandle:
        """Something to build and to search."""
        return IndexHandle(Side(instance, lease))

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        """Have the new one open what is persisted; at once refused while it is being built."""
        before, after = old.instance, new.instance
        if before.building.locked():
            raise ValueError("it is being built; change its plugin when that is done")
        return GatedMove(
            before, after, lambda: before.built, lambda built: _take_over(after, built)
        )


index: Final = Index("index", "built from a table, searched from SQL")
