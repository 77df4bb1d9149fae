"""The referrers of an object, as a path in words: `host.HANDLERS[0].callback`.

The question behind every drain that does not end and every memory leak. The collector can list the
referrers of an object, one heap walk for any number of objects; doing that level by level,
backwards, until something with a name is reached (a module, a class, a thread, a task, a local
variable) gives a path that a person can follow.

Two things are invisible to it: a reference from native code, and a value on the stack of a running
call. A path that ends without a name says so.

The objects on the way may be hostile (see `object_names`), and nothing is held after the search. A
search walks the whole heap several times: it is for a waiting person, never for a hot path.
"""

from __future__ import annotations

import gc
import inspect
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal._core.introspect.frames import undisturbed
from epochal._core.introspect.object_names import NAMESPACE, describe_object, edge, root_name
from epochal._core.introspect.running_code import frames_of_threads, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import FrameType

Items = TypeVar("Items", list[Any], tuple[Any, ...])

_DEPTH: Final = 10
_WIDTH: Final = 60
"""How far, and how broadly at each level, a search goes before it gives up."""


class PathStep:
    """An object on a path, and the next one towards the target."""

    __slots__ = ("below", "node")

    def __init__(self, node: Any, below: PathStep | None = None) -> None:
        self.node: Final = node
        self.below: Final = below

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


class ReferrerSearch:
    """One look through the heap. Make it, ask it, drop it.

    Args:
        ignored: the `id` of each object that does not count as a referrer.
    """

    __slots__ = ("_ignored", "_own", "_variables")

    def __init__(self, ignored: Iterable[int] = ()) -> None:
        # The search's own lists refer to the objects that it looks at, and must not count. They are
        # kept to its end: the `id` of a dropped list may be the next list's of anyone.
        self._own: Final[list[Sequence[Any]]] = []
        self._ignored: Final = {id(self._own), *ignored}
        self._variables: Final = _variables_of_threads()

    def own(self, items: Items) -> Items:
        """Do not count this list, or tuple, as a referrer."""
        self._own.append(items)
        self._ignored.add(id(items))
        return items

    def referrers(self, targets: list[Any]) -> list[Any]:
        """All objects that refer to any of these, without this search itself."""
        # The call takes this very tuple, and finds it, as its later calls do on Python 3.13.
        arguments = self.own(tuple(self.own(targets)))
        candidates = self.own(gc.get_referrers(*arguments))
        others = self.own([])
        for index in range(len(candidates)):  # a loop variable would be one more reference
            if (
                id(candidates[index]) not in self._ignored
                and type(candidates[index]) is not PathStep
            ):
                others.append(candidates[index])
        return others

    def variable(self, value: object) -> str | None:
        """The local variable of a running call that holds a value."""
        return self._variables.get(id(value))

    def paths(self, starts: Sequence[PathStep]) -> list[str]:
        """For each object, the shortest path that leads to it; one heap walk a level for all.

        Args:
            starts: where to begin; a step with another below it asks for a path through its object.

        Returns:
            The paths. An object that no name leads to is reported as held by native code.
        """
        paths = [ReferrerPath(start) for start in starts]
        for _ in range(_DEPTH):
            open_paths = [path for path in paths if path.climb(self)]
            if not open_paths:
                break
            level = self.own([step.node for path in open_paths for step in path.frontier])
            referrers = self.referrers(level)
            for path in open_paths:
                path.extend(referrers)
        return [path.words for path in paths]


class ReferrerPath:
    """The search for one object's path, a level at a time."""

    __slots__ = ("_seen", "_top", "_words", "frontier")

    def __init__(self, start: PathStep) -> None:
        self.frontier: list[PathStep] = [start]
        self._seen: Final = {id(start.node)}
        if start.below is not None:
            self._seen.add(id(start.below.node))
        self._top = start
        self._words: str | None = None

    def climb(self, search: ReferrerSearch) -> bool:
        """Look for a name on this level. Returns whether to go on."""
        if self._words is None:
            for step in self.frontier:
                root = search.variable(step.node)
                if root is None and step.below is not None:
                    root = root_name(step.node)
                if root is not None:
                    self._words = root + step.way_down()
                    break
            if self.frontier:
                self._top = self.frontier[0]
        return self._words is None and bool(self.frontier)

    def extend(self, referrers: list[Any]) -> None:
        """Go up to the referrers of this level."""
        below = {id(step.node): step for step in self.frontier}
        self.frontier = []
        for referrer in referrers:
            if id(referrer) in self._seen:
                continue
            step = next((below[i] for i in map(id, gc.get_referents(referrer)) if i in below), None)
            if step is not None:
                self._seen.add(id(referrer))
                self.frontier.append(PathStep(referrer, step))
                if len(self.frontier) == _WIDTH:
                    return

    @property
    def words(self) -> str:
        """The path, or how far it could be followed."""
        if self._words is not None:
            return self._words
        if self._top.below is None:
            return "native code"
        return f"{describe_object(self._top.node)}{self._top.way_down()}, which native code holds"


# --- local variables of running calls ------------------------------------------------------------


def _variables_of_threads() -> dict[int, str]:
    """The `id` of each local variable's value, over all threads, to the variable's name."""
    variables: dict[int, str] = {}
    for _, thread, frame in frames_of_threads():
        for name, value in _locals_of(frame).items():
            where = f"at {place_of(frame)} (thread {thread!r})"
            variables.setdefault(id(value), f"local variable {name!r} {where}")
    return variables


def _locals_of(frame: FrameType) -> Mapping[str, Any]:
    """A copy of a running call's variables.

    Before Python 3.13 reading `f_locals` leaves a snapshot of all variables in the frame, which
    would keep them alive until the call ends: it is emptied again, unless other code has it.
    """
    # A module's variables are found as the module's. A frame that is being traced is left alone:
    # the tracer writes this snapshot back into the variables.
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED or frame.f_trace is not None:
        return {}
    with undisturbed():
        snapshot = frame.f_locals
    copied = dict(snapshot)
    # Three references: the frame's, this variable's, the argument's. So no other code has it.
    if sys.version_info < (3, 13) and sys.getrefcount(snapshot) <= 3:
        snapshot.clear()
    return copied
