"""The referrers of an object, as a path in words: `host.HANDLERS[0].callback`.

The question behind every drain that does not end and every memory leak. The collector can list the
referrers of an object, one heap walk for any number of objects; doing that level by level,
backwards, until something with a name is reached (a module, a class, a thread, a task, a local
variable) gives a path that a person can follow.

A heap walk stops every other thread, and compares each reference in the heap with each object that
it asks about. So a walk asks about few objects, other threads run between two walks, and a search
has a time limit: a path that was not found by then says so.

Three things are invisible to a search: a reference from native code, a value on the stack of a
running call, and every object that `gc.freeze` set aside. A path that ends without a name says so.
A tuple that is still being made is left alone (see `heap`).

The objects on the way may be hostile (see `object_names`), and nothing is held after the search. A
search walks the whole heap several times: it is for a waiting person, never for a hot path.
"""

from __future__ import annotations

import gc
from threading import get_ident
from time import monotonic, sleep, thread_time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from epochal._core.introspect import heap
from epochal._core.introspect.frames import locals_of
from epochal._core.introspect.object_names import NAMESPACE, describe_object, edge, root_name
from epochal._core.introspect.places import place_in
from epochal._core.introspect.running_code import frames_of_threads
from epochal._core.sync.weak_registry import WeakRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import CodeType

Items = TypeVar("Items", bound=list[Any])

_DEPTH: Final = 40
_WIDTH: Final = 48
"""How far, and how broadly at each level, a search goes before it gives up."""
_TARGETS_AT_MOST: Final = 16
"""How many objects one heap walk asks about: 16 take about twice as long as one."""
_LOOK_S: Final = 0.5
"""Seconds of processor time after which no other heap walk begins: for finding objects, and then as
long for their paths. The time in which other threads run does not count."""
_PAUSE_S: Final = 0.005


class PathStep:
    """An object on a path, and the next one towards the target."""

    __slots__ = ("below", "node")

    def __init__(self, node: Any, below: PathStep | None = None) -> None:
        self.node: Final = node
        self.below: Final = below

    @property
    def target(self) -> Any:
        """The next object towards the target."""
        assert self.below is not None  # of a step that `ReferrerSearch.edges` made
        return self.below.node

    def way_down(self) -> str:
        """The way from this object to the target, in words."""
        words: list[str] = []
        step = self
        while step.below is not None:
            word = edge(step.node, step.below.node)
            if words and words[-1] == NAMESPACE and word.startswith("['"):
                words[-1], word = "", f".{word[2:-2]}"
            words.append(word)
            step = step.below
        return "".join(words)


class Search(Protocol):
    """A look at objects, to which it refers until it is dropped."""

    @property
    def thread(self) -> int:
        """The number of the thread that searches."""
        ...


SEARCHES: Final[WeakRegistry[Search]] = WeakRegistry()
"""Those that have not been dropped, of all threads."""


class ReferrerSearch:
    """One look through the heap. Make it, ask it, drop it.

    Args:
        ignored: the `id` of each object that does not count as a referrer.

    Attributes:
        thread: the number of the thread that searches.
    """

    __slots__ = ("__weakref__", "_deadline", "_ignored", "_own", "_variables", "thread")

    def __init__(self, ignored: Iterable[int] = ()) -> None:
        self.thread: Final = get_ident()
        SEARCHES.add(self)
        # The search's own lists refer to the objects that it looks at, and must not count. They are
        # kept to its end: the `id` of a dropped list may be the next list's of anyone.
        self._own: Final[list[Sequence[Any]]] = []
        self._ignored: Final = {id(self._own), *ignored}
        self._deadline = thread_time() + _LOOK_S
        tuples = self.own(list[Any]())
        self._variables: Final = _variables_of_threads(self._deadline, tuples)

    @property
    def is_over(self) -> bool:
        """Whether its time has run out: that for finding objects or, in `paths`, that for paths."""
        return thread_time() >= self._deadline

    def own(self, items: Items) -> Items:
        """Do not count this list as a referrer."""
        self._own.append(items)
        self._ignored.add(id(items))
        return items

    def referrers(self, targets: list[Any]) -> list[Any]:
        """The objects that refer to any of these, without this search itself.

        All of them, unless its time runs out between two walks; one walk is always made.
        """
        self.own(targets)
        found = self.own([])
        for first in range(0, len(targets), _TARGETS_AT_MOST):
            if first and self.is_over:
                break
            asked = self.own(targets[first : first + _TARGETS_AT_MOST])
            candidates = self.own(heap.referrers(asked, self._ignored))
            for index in range(len(candidates)):  # a loop variable would be one more reference
                if (
                    id(candidates[index]) not in self._ignored
                    and type(candidates[index]) is not PathStep
                ):
                    found.append(candidates[index])
        return found

    def edges(self, targets: list[Any]) -> list[PathStep]:
        """The references to any of these: each an object that refers, and below it the target."""
        # A list, not a generator: a suspended generator is an object, and would be found.
        below = {id(target): PathStep(target) for target in targets}
        edges: list[PathStep] = []
        seen: set[int] = set()
        for referrer in self.referrers(targets):
            if id(referrer) not in seen:
                seen.add(id(referrer))
                # A loop, in which other threads get their turn: there may be millions.
                found: set[int] = set()
                for referent in gc.get_referents(referrer):
                    if id(referent) in below:
                        found.add(id(referent))
                edges += [PathStep(referrer, below[key]) for key in found]
        return edges

    def variable(self, value: object) -> str | None:
        """The local variable of a running call that holds a value."""
        variable = self._variables.get(id(value))
        return None if variable is None else variable.described

    def root(self, step: PathStep) -> str | None:
        """The name by which an object can be found; None if it has none."""
        name = self.variable(step.node)
        if name is not None or step.below is None:  # the target's own name is no answer
            return name
        name = root_name(step.node)
        # A table of the process that this library reads has a name of its own, further up.
        return None if name is not None and name.startswith("epochal._core.") else name

    def paths(self, starts: Sequence[PathStep]) -> list[str]:
        """For each object, the shortest path that leads to it; the levels are walked for all.

        Args:
            starts: where to begin; a step with another below it asks for a path through its object.

        Returns:
            The paths. An object that no name leads to is reported as held by native code.
        """
        self._deadline = thread_time() + _LOOK_S
        paths = [ReferrerPath(start, self.root(start)) for start in starts]
        for _ in range(_DEPTH):
            level: dict[int, PathStep] = {}
            for path in paths:
                level.update(path.frontier)
            if not level or self.is_over:
                break
            edges = self.edges([step.node for step in level.values()])
            names = [self.root(edge) for edge in edges]
            followed: set[int] = set()
            for path in paths:
                if path.frontier:
                    path.extend(edges, names, followed)
        return [path.words for path in paths]


def wait_for_other_searches(timeout: float) -> None:
    """Wait until no other thread searches, for so many seconds at most.

    A search refers to every object that it has found: it would be taken for a use, or a leak.
    """
    here, end = get_ident(), monotonic() + timeout
    while any(search.thread != here for search in SEARCHES.live()) and monotonic() < end:
        sleep(_PAUSE_S)


class ReferrerPath:
    """The search for one object's path, a level at a time.

    Attributes:
        frontier: the steps whose referrers come next, by the `id` of their objects; empty when the
            search has ended.
    """

    __slots__ = ("_put_off", "_seen", "_top", "_words", "frontier")

    def __init__(self, start: PathStep, name: str | None) -> None:
        self._seen: Final = {id(start.node)}
        if start.below is not None:
            self._seen.add(id(start.below.node))
        self._top = start
        self._put_off: Final[list[PathStep]] = []  # their level had enough: for when others end
        self._words = None if name is None else name + start.way_down()
        self.frontier = {id(start.node): start} if name is None else {}

    def extend(self, edges: list[PathStep], names: list[str | None], followed: set[int]) -> None:
        """Go up to the referrers of this level.

        Args:
            edges: the references to the objects of all paths' levels.
            names: the name of each object that refers; None if it has none.
            followed: the `id` of each object that a path follows on the next level; added to.
        """
        frontier, self.frontier = self.frontier, {}
        for edge_up, name in zip(edges, names, strict=True):
            below = frontier.get(id(edge_up.target))
            if below is None or id(edge_up.node) in self._seen:
                continue
            step = PathStep(edge_up.node, below)
            if name is not None:
                self._words, self.frontier = name + step.way_down(), {}
                return
            self._follow(step, followed)
        if not self.frontier:
            self.frontier = {id(step.node): step for step in self._put_off[:_TARGETS_AT_MOST]}
            del self._put_off[:_TARGETS_AT_MOST]
        if self.frontier:
            self._top = next(iter(self.frontier.values()))

    def _follow(self, step: PathStep, followed: set[int]) -> None:
        key = id(step.node)
        self._seen.add(key)
        # Each path goes on with one object at least, however many the others follow.
        if self.frontier and len(followed) >= _WIDTH and key not in followed:
            self._put_off.append(step)
        else:
            followed.add(key)
            self.frontier[key] = step

    @property
    def words(self) -> str:
        """The path, or how far it could be followed."""
        if self._words is not None:
            return self._words
        holder = "native code"
        if self.frontier:
            holder = "an object that was not looked for any further"
        if self._top.below is None:
            return holder
        return f"{describe_object(self._top.node)}{self._top.way_down()}, which {holder} holds"


# --- local variables of running calls ------------------------------------------------------------


class _Variable:
    """A local variable of a running call; put into words where a path needs it."""

    __slots__ = ("_code", "_line", "_name", "_thread")

    def __init__(self, name: str, code: CodeType, line: int | None, thread: str) -> None:
        self._name: Final = name
        self._code: Final = code
        self._line: Final = line
        self._thread: Final = thread

    @property
    def described(self) -> str:
        """`local variable 'x' at geo.py:41 in poll (thread 'worker')`."""
        place = place_in(self._code, self._line)
        return f"local variable {self._name!r} at {place} (thread {self._thread!r})"


def _variables_of_threads(deadline: float, tuples: list[Any]) -> dict[int, _Variable]:
    """The variables of all threads' calls, by the `id` of their values; some, if time runs out.

    Args:
        deadline: as `thread_time` counts.
        tuples: gets the values that are tuples. Those are finished, and a look at the heap sees
            that by their second owner.
    """
    variables: dict[int, _Variable] = {}
    for _, thread, frame in frames_of_threads():
        if thread_time() >= deadline:
            break
        for name, value in locals_of(frame).items():
            if id(value) not in variables:
                variables[id(value)] = _Variable(name, frame.f_code, frame.f_lineno, thread)
                if type(value) is tuple:
                    tuples.append(value)
    return variables
